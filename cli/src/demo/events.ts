import type { CandidateReport } from '@commonweight/client-sdk';
import type { AgentEvent } from '@commonweight/edge-agent';
import type { TaskStatus } from '@commonweight/proto';
import { agentLine } from '../agent/agent-line.ts';

/** What happens in a demo, as it is printed with --json. */
export type DemoEvent =
  | Started
  | { event: 'note'; text: string }
  | { event: 'agent'; agent: string; link: 'grpc' | 'nats'; what: string; trainMs?: number }
  | Status
  | { event: 'published'; round: number; version: number; accepted: number }
  | Served
  | { event: 'superseded'; version: number }
  | { event: 'accuracy'; version: number; accuracy: number }
  | { event: 'predictions'; predictions: number; failed: number }
  | { event: 'restart'; program: string; why: string; restarts: number };

export interface Started {
  event: 'started';
  coordinator: string;
  http: string;
  nats: string | null;
  agents: { grpc: number; nats: number };
  rounds: number;
  seed: number;
  data: string;
}

/** The app serves a version, in the form that it measured to be the fastest. */
export interface Served {
  event: 'version';
  version: number;
  reason: string;
  variant: string;
  why: string;
  candidates: readonly CandidateReport[];
}

/** The part of a task's status that the demo shows. */
export interface Status {
  event: 'status';
  state: string;
  phase: string;
  round: number;
  version: number;
  cohort: number;
  accepted: number;
  updatesAccepted: number;
  updatesRejected: number;
  rejectedByReason: Record<string, number>;
  bytesUp: number;
  bytesDown: number;
  agentsOnline: number;
  waiting: string;
}

export interface Summary {
  event: 'summary';
  rounds: number;
  accuracy: number;
  versions: number;
  agents: { grpc: number; nats: number };
  updatesAccepted: number;
  updatesRejected: number;
  bytesUp: number;
  bytesDown: number;
  trainMs: number;
  swaps: number;
  /** The form of the last version that the app served. */
  variant: string;
  superseded: number;
  failedPredictions: number;
  seconds: number;
}

export function statusEvent(status: TaskStatus): Status {
  const { state, phase, cohort, accepted, agentsOnline, waiting } = status;
  const reasons = Object.entries(status.rejectedByReason).map(([reason, count]) => [reason, Number(count)] as const);
  return {
    event: 'status',
    state,
    phase,
    round: Number(status.round),
    version: Number(status.version),
    cohort,
    accepted,
    updatesAccepted: Number(status.updatesAccepted),
    updatesRejected: Number(status.updatesRejected),
    rejectedByReason: Object.fromEntries(reasons),
    bytesUp: Number(status.bytesUp),
    bytesDown: Number(status.bytesDown),
    agentsOnline,
    waiting,
  };
}

/** What an agent's event is to the demo; troubles are noted where people look. */
export function agentEvents(agent: string, link: 'grpc' | 'nats', event: AgentEvent): DemoEvent[] {
  const heard: DemoEvent = {
    event: 'agent',
    agent,
    link,
    what: event.type,
    ...(event.type === 'trained' ? { trainMs: event.trainMs } : {}),
  };
  const isTrouble = event.type === 'rejected' || event.type === 'failure' || event.type === 'warning';
  return isTrouble ? [heard, { event: 'note', text: `${agent}: ${agentLine(event)}` }] : [heard];
}

/** What a task's state says to people: counts, and in words what it waits for. */
import { create } from '@bufbuild/protobuf';
import { invariant } from '@commonweight/core';
import { TaskStatusSchema, type TaskStatus } from '@commonweight/proto';
import { kindOf, type AnyConfig } from '../round/config.ts';
import { awaited, policyNow, turnOf, type Idle, type RoundPolicy, type RoundState } from '../round/round.ts';
import { restingIn } from '../round/separation.ts';
import { updatesMax } from '../round/windows.ts';
import type { Counters } from './counters.ts';
import type { Fleet } from './fleet.ts';
import type { RoundWork } from './round-work.ts';

export type TaskState = 'paused' | 'running' | 'finished';

/** A task as it is at a moment. */
export interface TaskView {
  task: string;
  config: AnyConfig;
  configJson: string;
  work: RoundWork;
  fleet: Fleet;
  state: RoundState;
  taskState: TaskState;
  counters: Counters;
  /** That it trains or measures. */
  version: bigint;
  nowMs: number;
}

type OpenState = Exclude<RoundState, { phase: 'Idle' }>;

export function statusOf(view: TaskView): TaskStatus {
  const { state, work, fleet, counters } = view;
  const { updatesAccepted, updatesRejected, rejectedByReason, bytesUp, bytesDown, roundsAbandoned, metrics } = counters;
  const accepted = state.phase === 'Idle' ? 0 : state.accepted.length;
  const { online, unqualified } = fleet.countsFor(work.wanting);
  const counts = Object.entries(rejectedByReason).map(([reason, count]) => [reason, BigInt(count)] as const);
  return create(TaskStatusSchema, {
    task: view.task,
    model: view.config.model,
    state: view.taskState,
    phase: state.phase,
    round: BigInt(state.round),
    roundsMax: BigInt(view.config.rounds),
    version: view.version,
    cohort: state.phase === 'Collecting' ? state.cohort.length : accepted,
    accepted,
    updatesAccepted: BigInt(updatesAccepted + accepted),
    updatesRejected: BigInt(updatesRejected),
    rejectedByReason: Object.fromEntries(counts),
    bytesUp: BigInt(bytesUp),
    bytesDown: BigInt(bytesDown),
    agentsOnline: online,
    agentsUnqualified: unqualified,
    waiting: waiting(view, unqualified),
    strategy: work.training?.strategy.name ?? '',
    kind: kindOf(view.config),
    candidate: BigInt(state.candidate?.number ?? 0),
    candidatesRefused: BigInt(counters.candidatesRefused ?? 0),
    metrics,
    roundsAbandoned: BigInt(roundsAbandoned),
    configJson: view.configJson,
    updatesMax: state.phase === 'Idle' ? 0 : neededIn(state, view),
    agentsResting: policyOf(view).separation === 0 ? 0 : resting(fleet.readyFor(work.wanting), view),
  });
}

const policyOf = ({ state, work }: TaskView): RoundPolicy => policyNow(state, work.policy);

/** Updates that close the round. */
const neededIn = (state: OpenState, view: TaskView): number =>
  view.work.asynchronous?.bufferSize ?? updatesMax({ ...state, phase: 'Collecting' }, policyOf(view));

/** How many of some agents the next round leaves out, since they took part lately. */
function resting(agents: readonly string[], view: TaskView): number {
  const { state, work } = view;
  const isNext = state.phase === 'Idle' || work.asynchronous === undefined;
  const left = restingIn(isNext ? turnOf(state) + 1 : state.round, state, policyOf(view).separation);
  return agents.filter((agentId) => left.has(agentId)).length;
}

/** In words; empty where it waits for nothing. */
function waiting(view: TaskView, unqualified: Readonly<Record<string, number>>): string {
  const { state, taskState } = view;
  if (taskState !== 'running' || state.phase === 'Publishing') return '';
  if (state.phase === 'Idle') return waitingToOpen(state, view, unqualified);
  return view.work.asynchronous === undefined ? waitingForUpdates(state, view) : waitingForBuffer(state, view);
}

function waitingToOpen(state: Idle, view: TaskView, unqualified: Readonly<Record<string, number>>): string {
  if (state.candidate !== undefined) return waitingForJudges(state.candidate.number, view);
  const { work, fleet, config, nowMs, task } = view;
  const policy = policyOf(view);
  if (policy.oncePerVersion === true && state.measured === state.version)
    return `version ${state.version} is measured: waiting for a newer one`;
  const all = fleet.readyFor(work.wanting);
  const left = resting(all, view);
  const ready = all.length - left;
  if (ready >= config.cohort.min) return waitingForRoot(view);
  const { agents, lastMs } = fleet.returning(task, nowMs);
  const back = agents === 0 ? '' : `, ${agents} come back within ${Math.ceil(lastMs / 1000)} s`;
  const lacking = lackingWords(unqualified);
  const rest = left === 0 ? '' : `, ${left} took part in the last ${policy.separation} rounds (separation)`;
  return `waiting for agents: ${ready} of at least ${config.cohort.min} are ready${rest}${lacking}${back}`;
}

function waitingForJudges(candidate: number, view: TaskView): string {
  const { judging } = view.work;
  invariant(judging !== undefined, 'candidates are judged by somebody');
  const ready = view.fleet.readyFor(judging).length;
  const { cohortMin } = policyOf(view);
  if (ready >= cohortMin) return '';
  const who = judging.evaluators === undefined ? 'agents' : `evaluators (${judging.evaluators.join(', ')})`;
  return `candidate ${candidate} waits for ${who}: ${ready} of at least ${cohortMin} are ready`;
}

/** The evaluator by whose update the others are judged. */
function waitingForRoot(view: TaskView): string {
  const { judging } = view.work;
  if (policyOf(view).needsRoot !== true || judging === undefined) return '';
  if (view.fleet.readyFor(judging).length > 0) return '';
  return `waiting for an evaluator: none of ${judging.evaluators?.join(', ')} is ready`;
}

function waitingForBuffer(state: OpenState, { work }: TaskView): string {
  const size = work.asynchronous?.bufferSize ?? 0;
  const { length: training } = Object.keys(state.training ?? {});
  const who = training === 1 ? '1 agent is' : `${training} agents are`;
  return `waiting for ${size - state.accepted.length} of ${size} updates: ${who} training`;
}

function waitingForUpdates(state: OpenState, view: TaskView): string {
  const { fleet, nowMs } = view;
  const missing = awaited(state);
  const clients = missing.filter((agentId) => agentId !== state.root);
  const first = clients[0] ?? missing[0];
  if (first === undefined) return '';
  const seenMs = fleet.seenMs(first);
  const seen = seenMs === undefined ? 'not seen yet' : `seen ${Math.round((nowMs - seenMs) / 1000)} s ago`;
  const needed = neededIn(state, view);
  const delivered = state.accepted.filter(({ agentId }) => agentId !== state.root).length;
  const more = [
    ...(clients.length > 0 && needed === state.cohort.length - (state.root === undefined ? 0 : 1)
      ? [`${clients.length} of ${needed}`]
      : delivered < needed
        ? [`${needed - delivered} more of ${needed} updates from ${clients.length} agents`]
        : []),
    ...(missing.length > clients.length ? [`the evaluator ${state.root}`] : []),
  ];
  return `waiting for ${more.join(' and ')}: ${first} ${fleet.isOnline(first) ? 'is training' : seen}`;
}

/** Agents that do not qualify, by what they lack, as part of a sentence. */
function lackingWords(counts: Readonly<Record<string, number>>): string {
  const all = Object.entries(counts);
  if (all.length === 0) return '';
  const sum = all.reduce((total, [, count]) => total + count, 0);
  return `, ${sum} do not qualify (${all.map(([lack, count]) => `${lack} ${count}`).join(', ')})`;
}

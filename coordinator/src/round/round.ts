/**
 * The life of a round, as a pure function.
 *
 *     Idle -> Collecting -> Publishing -> Idle
 *              |                            ^
 *              +------- (abandoned) --------+
 *
 * A state is JSON and names only ids: the driver holds tensors, timers and sockets.
 */
import { seeded, type Asynchronous } from '@commonweight/core';
import { bufferStep, bufferVerdict } from './buffer.ts';
import { restingIn, withVersionOf, type Recent } from './separation.ts';
import { closingOf, surplusOf, type Surplus } from './windows.ts';

/** What a round needs to know of its task. */
export interface RoundPolicy {
  /** Updates of a round. */
  cohortMin: number;
  cohortMax: number;
  /** Agents that a round invites: as many as `cohortMax`, or more where some are expected not to deliver. */
  inviteMax: number;
  /** How long a round waits for updates. */
  collectMs: number;
  /** How long it takes them at least; then the minimum of updates is enough. Without it a round waits for everybody. */
  collectMinMs?: number;
  /** Between two rounds. */
  pauseMs: number;
  /** How long a round with the minimum ready waits for the rest of the cohort to be. */
  gatherMs: number;
  /** How long an invited agent may be away before the round no longer waits for it. */
  graceMs: number;
  /** Rounds to publish; 0 is for ever. */
  roundsMax: number;
  /** Rounds that an agent leaves out after one that it took part in. */
  separation: number;
  /** What a round makes is a candidate, which agents evaluate before it is a version: as this says. */
  evaluation?: EvaluationPolicy;
  /** Rounds make no version but measure one: a round for each that comes. */
  oncePerVersion?: boolean;
  /** A round needs the update of an evaluator, by which the others are judged. */
  needsRoot?: boolean;
  seed: number;
  /** Without rounds: a buffer in place of the cohort (buffer.ts). */
  asynchronous?: Asynchronous;
}

/** Of the rounds in which agents evaluate a candidate. */
export interface EvaluationPolicy {
  cohortMin: number;
  cohortMax: number;
  collectMs: number;
}

/** What a round made, until it is decided whether it is a version: the rounds are evaluations meanwhile. */
export interface PendingCandidate {
  number: number;
  /** What it is made of: its agents hear no end before it is decided. */
  updates: readonly AcceptedUpdate[];
}

/** An update that is in the sum. */
export interface AcceptedUpdate {
  agentId: string;
  /** Hexadecimal. */
  updateId: string;
}

export type RoundState =
  | Idle
  | Collecting
  /** Never saved: a round that was not published goes on collecting. */
  | (Omit<Collecting, 'phase'> & { phase: 'Publishing' });

export interface Idle {
  phase: 'Idle';
  round: number;
  published: number;
  version: number;
  startAtMs: number;
  /** As in Collecting. */
  oldestBase?: number;
  surplus?: Surplus;
  recent?: Recent;
  turns?: number;
  measured?: number;
  candidate?: PendingCandidate;
}

export interface Collecting {
  phase: 'Collecting';
  round: number;
  published: number;
  version: number;
  cohort: readonly string[];
  accepted: readonly AcceptedUpdate[];
  /** Invited agents that are away, and since when; OUT where they deliver nothing any more, away or not. */
  away: Readonly<Record<string, number>>;
  deadlineMs: number;
  /** Without rounds: agents that train, on whichever version, and until when a place is kept for them. */
  training?: Readonly<Record<string, number>>;
  /** Without rounds: when somebody last came or went. */
  quietMs?: number;
  /** Without rounds: the oldest version that updates may be trained on, since the model was rolled back. */
  oldestBase?: number;
  /** Of the last round that closed, where it was full before everybody had delivered. */
  surplus?: Surplus;
  /** Where the task has a separation. */
  recent?: Recent;
  /** Rounds of training so far, where others are between them. */
  turns?: number;
  /** Of a task that measures each version once: the newest that it has. */
  measured?: number;
  /** The round is an evaluation of it. */
  candidate?: PendingCandidate;
  /** The evaluator that is in the cohort, where its update is needed. */
  root?: string;
}

/** In place of a time: for the rest of the round. */
export const OUT = -1;

export type RoundEvent =
  /** `judges` are those who may evaluate a candidate now, or have what the others are judged by. */
  | { type: 'Tick'; nowMs: number; ready: readonly string[]; judges?: readonly string[] }
  | ({ type: 'UpdateReceived'; nowMs: number } & OfferedUpdate)
  /** Updates that came as one sum: all of them are judged acceptable, and the round may close only once all are in. */
  | { type: 'PartReceived'; nowMs: number; round: number; updates: readonly AcceptedUpdate[] }
  | { type: 'AgentAway'; nowMs: number; agentId: string }
  | { type: 'AgentBack'; nowMs: number; agentId: string }
  /** The agent's update was refused or its training failed: it delivers nothing more in this round. */
  | { type: 'AgentOut'; nowMs: number; agentId: string; round: number }
  /** Who had these updates has died, and they are in no sum any more. */
  | { type: 'Withdrawn'; nowMs: number; updateIds: readonly string[] }
  /** `agents` are those whose updates are in the version. */
  | { type: 'Published'; nowMs: number; version: number; agents: readonly string[] }
  /** Gates let what was made be evaluated. */
  | { type: 'Proposed'; nowMs: number; candidate: PendingCandidate }
  /** A gate does not let it be a version. */
  | { type: 'Refused'; nowMs: number }
  | { type: 'Recovered'; nowMs: number }
  /** The model has another newest version, which this task did not make. */
  | { type: 'Rebased'; nowMs: number; version: number };

/** What means something else in each phase. */
export type PhaseEvent = Exclude<RoundEvent, { type: 'Rebased' }>;

export interface OfferedUpdate {
  agentId: string;
  updateId: string;
  round: number;
  baseVersion: number;
}

export type RoundEffect =
  | { type: 'Invite'; round: number; version: number; cohort: readonly string[] }
  /** More agents, into the round that is open. */
  | { type: 'InviteMore'; round: number; version: number; cohort: readonly string[] }
  | { type: 'Publish'; round: number; version: number; accepted: readonly AcceptedUpdate[] }
  | { type: 'AbandonRound'; round: number; reason: string }
  | { type: 'Finish' };

/** What is said of an update. `duplicate` is good news: it is in the sum already. */
export type Verdict =
  'accepted' | 'duplicate' | 'stale-round' | 'round-full' | 'not-invited' | 'not-collecting' | 'wrong-base-version';

export interface Step {
  state: RoundState;
  effects: readonly RoundEffect[];
}

/** The state of a task that never ran. */
export const firstState = (version: number): RoundState => ({
  phase: 'Idle',
  round: 0,
  published: 0,
  version,
  startAtMs: 0,
});

/** Judges an update by the state alone; its bytes are judged elsewhere. */
export function verdictOn(state: RoundState, update: OfferedUpdate, asynchronous?: Asynchronous): Verdict {
  if (asynchronous !== undefined) return bufferVerdict(state, update, asynchronous);
  const { candidate, surplus } = state;
  if (candidate?.updates.some(({ updateId }) => updateId === update.updateId) === true) return 'duplicate';
  if (surplus?.round === update.round && surplus.agents.includes(update.agentId)) return 'round-full';
  if (update.round !== state.round) return 'stale-round';
  if (state.phase === 'Idle') return 'stale-round';
  if (state.accepted.some(({ updateId }) => updateId === update.updateId)) return 'duplicate';
  if (state.phase === 'Publishing') return 'not-collecting';
  if (!state.cohort.includes(update.agentId)) return 'not-invited';
  if (update.baseVersion !== state.version) return 'wrong-base-version';
  // One agent, one update: a second one with other bytes came too late.
  return state.accepted.some(({ agentId }) => agentId === update.agentId) ? 'not-collecting' : 'accepted';
}

/** How a round goes that is opened now, or is open. */
export function policyNow(state: RoundState, policy: RoundPolicy): RoundPolicy {
  if (state.candidate === undefined || policy.evaluation === undefined) return policy;
  const { collectMinMs: _, needsRoot: __, ...rest } = policy;
  return { ...rest, ...policy.evaluation, inviteMax: policy.evaluation.cohortMax };
}

/** One step of the machine. */
export function step(state: RoundState, event: RoundEvent, given: RoundPolicy): Step {
  const policy = policyNow(state, given);
  const { asynchronous } = policy;
  if (event.type === 'Rebased') return rebased(state, event, policy);
  if (asynchronous !== undefined) return bufferStep(state, event, { ...policy, asynchronous });
  switch (state.phase) {
    case 'Idle':
      if (event.type === 'Recovered') return still(recoveredIdle(state, event.nowMs, policy));
      return event.type === 'Tick' ? idle(state, event, policy) : still(state);
    case 'Collecting':
      return collecting(state, event, policy);
    case 'Publishing':
      if (event.type === 'Published') return published(state, event, policy);
      if (event.type === 'Proposed') return still(proposed(state, event));
      if (event.type === 'Refused') return still(refused(state, event, policy));
      return event.type === 'Withdrawn' ? still(withdrawn(reopened(state), event, policy)) : still(state);
  }
}

/** Whether an agent is invited to the open round and may still deliver. */
export function awaits(state: RoundState, agentId: string): boolean {
  if (state.phase !== 'Collecting' || !state.cohort.includes(agentId) || state.away[agentId] === OUT) return false;
  return !state.accepted.some((update) => update.agentId === agentId);
}

/** The agents of the round that have not delivered, and may. */
export function awaited(state: RoundState): string[] {
  if (state.phase === 'Idle') return [];
  const delivered = new Set(state.accepted.map(({ agentId }) => agentId));
  return state.cohort.filter((agentId) => state.away[agentId] !== OUT && !delivered.has(agentId));
}

/** When the training of an invited agent is to be over, by the clock of the leader that invited it. Without rounds each has its own time. */
export const trainingEndMs = (state: Collecting, agentId: string): number =>
  state.training?.[agentId] ?? state.deadlineMs;

/** The round with an agent that delivers nothing more in it. */
export const withOut = (state: Collecting, agentId: string): Collecting => ({
  ...state,
  away: { ...state.away, [agentId]: OUT },
});

const still = (state: RoundState): Step => ({ state, effects: [] });

/** What is under way was trained on versions that the newest does not follow from: it counts nowhere. */
function rebased(
  state: RoundState,
  { nowMs, version }: Extract<RoundEvent, { type: 'Rebased' }>,
  { asynchronous }: RoundPolicy,
): Step {
  if (state.version === version) return still(state);
  const { phase, round, published: count } = state;
  const base = asynchronous === undefined ? {} : { oldestBase: version };
  const next: Idle = { phase: 'Idle', round, published: count, version, startAtMs: nowMs, ...base, ...kept(state) };
  if (phase === 'Idle') return still(next);
  return {
    state: next,
    effects: [{ type: 'AbandonRound', round, reason: `version ${version} is no child of its base` }],
  };
}

/** What is remembered whatever becomes of a round. */
function kept({ measured, recent, turns }: RoundState): Pick<Idle, 'measured' | 'recent' | 'turns'> {
  return {
    ...(recent === undefined ? {} : { recent }),
    ...(turns === undefined ? {} : { turns }),
    ...(measured === undefined ? {} : { measured }),
  };
}

/** Rounds of training so far: evaluations are none. */
export const turnOf = ({ round, turns }: Pick<Idle, 'round' | 'turns'>): number => turns ?? round;

function idle(state: Idle, event: Extract<RoundEvent, { type: 'Tick' }>, policy: RoundPolicy): Step {
  const { nowMs } = event;
  const { candidate } = state;
  const all = candidate === undefined ? event.ready : (event.judges ?? []);
  if (candidate === undefined && policy.roundsMax > 0 && state.published >= policy.roundsMax)
    return { state, effects: [{ type: 'Finish' }] };
  if (nowMs < state.startAtMs || all.length < policy.cohortMin) return still(state);
  if (policy.oncePerVersion === true && state.measured === state.version) return still(state);
  const round = state.round + 1;
  const resting = candidate === undefined ? restingIn(turnOf(state) + 1, state, policy.separation) : new Set();
  const ready = all.filter((agentId) => !resting.has(agentId));
  const isRooted = candidate === undefined && policy.needsRoot === true;
  // Another one each round, since one may not be able to train.
  const root = isRooted
    ? seeded(policy.seed)
        .fork(`root ${round}`)
        .shuffle((event.judges ?? []).toSorted())[0]
    : undefined;
  if (isRooted && root === undefined) return still(state);
  if (ready.length < policy.cohortMin) return still(state);
  if (ready.length < policy.inviteMax && nowMs < state.startAtMs + policy.gatherMs) return still(state);
  // Sorted first, so that the draw does not depend on who came first.
  const drawn = seeded(policy.seed)
    .fork(`cohort ${round}`)
    .shuffle([...ready].sort())
    .slice(0, policy.inviteMax);
  const cohort = [...drawn, ...(root === undefined ? [] : [root])].sort();
  const { version, published, surplus } = state;
  // Where evaluations are between rounds of training, these are counted apart.
  const isTurn = candidate === undefined && policy.evaluation !== undefined;
  return {
    state: {
      phase: 'Collecting',
      round,
      published,
      version,
      cohort,
      accepted: [],
      away: {},
      deadlineMs: nowMs + policy.collectMs,
      ...(surplus === undefined ? {} : { surplus }),
      ...kept(state),
      ...(isTurn ? { turns: turnOf(state) + 1 } : {}),
      ...(candidate === undefined ? {} : { candidate }),
      ...(root === undefined ? {} : { root }),
    },
    effects: [{ type: 'Invite', round, version, cohort }],
  };
}

/** Who saved the state may have had another date: the pause begins again at most. */
const recoveredIdle = (state: Idle, nowMs: number, { pauseMs }: RoundPolicy): Idle => ({
  ...state,
  startAtMs: Math.min(state.startAtMs, nowMs + pauseMs),
});

function collecting(state: Collecting, event: PhaseEvent, policy: RoundPolicy): Step {
  switch (event.type) {
    case 'Tick':
      return closeIfDue(state, event.nowMs, policy);
    case 'UpdateReceived': {
      if (verdictOn(state, event) !== 'accepted') return still(state);
      const { agentId, updateId } = event;
      const next = {
        ...state,
        accepted: [...state.accepted, { agentId, updateId }],
        away: without(state.away, agentId),
      };
      return closeIfDue(next, event.nowMs, policy);
    }
    case 'PartReceived':
      return event.round === state.round ? partReceived(state, event, policy) : still(state);
    case 'AgentAway':
      if (!state.cohort.includes(event.agentId) || event.agentId in state.away) return still(state);
      return still({ ...state, away: { ...state.away, [event.agentId]: event.nowMs } });
    case 'AgentBack':
      if (state.away[event.agentId] === OUT) return still(state);
      return still({ ...state, away: without(state.away, event.agentId) });
    case 'AgentOut': {
      if (event.round !== state.round || !state.cohort.includes(event.agentId)) return still(state);
      return closeIfDue(withOut(state, event.agentId), event.nowMs, policy);
    }
    case 'Recovered':
      // The sum died with the process; the updates live in their agents' outboxes and are offered again.
      return still({ ...state, accepted: [], away: {}, deadlineMs: event.nowMs + policy.collectMs });
    case 'Withdrawn':
      return still(withdrawn(state, event, policy));
    case 'Published':
    case 'Proposed':
    case 'Refused':
      return still(state);
  }
}

function partReceived(
  state: Collecting,
  { nowMs, updates }: Extract<RoundEvent, { type: 'PartReceived' }>,
  policy: RoundPolicy,
): Step {
  const away = updates.reduce((left, { agentId }) => without(left, agentId), state.away);
  return closeIfDue({ ...state, accepted: [...state.accepted, ...updates], away }, nowMs, policy);
}

/** It is not full any more. */
function reopened({ surplus: _, ...state }: Extract<RoundState, { phase: 'Publishing' }>): Collecting {
  return { ...state, phase: 'Collecting' };
}

/** Their agents offer them again, and have the time for it that a round has. */
function withdrawn(
  state: Collecting,
  { nowMs, updateIds }: Extract<RoundEvent, { type: 'Withdrawn' }>,
  policy: RoundPolicy,
): Collecting {
  const accepted = state.accepted.filter(({ updateId }) => !updateIds.includes(updateId));
  if (accepted.length === state.accepted.length) return state;
  return { ...state, accepted, deadlineMs: Math.max(state.deadlineMs, nowMs + policy.collectMs) };
}

function closeIfDue(state: Collecting, nowMs: number, policy: RoundPolicy): Step {
  const { round, version, accepted } = state;
  const closing = closingOf(state, nowMs, policy);
  if (closing === undefined) return still(state);
  if (closing === 'too-few') {
    const { candidate } = state;
    const reason = tooFew(state, policy);
    return {
      state: {
        phase: 'Idle',
        round,
        published: state.published,
        version,
        startAtMs: nowMs + policy.pauseMs,
        ...kept(state),
        ...(candidate === undefined ? {} : { candidate }),
      },
      effects: [{ type: 'AbandonRound', round, reason }],
    };
  }
  const { surplus: _, ...rest } = state;
  const surplus = closing === 'full' ? surplusOf(state) : undefined;
  return {
    state: { ...rest, phase: 'Publishing', ...(surplus === undefined ? {} : { surplus }) },
    effects: [{ type: 'Publish', round, version, accepted }],
  };
}

/** Why a round came to nothing. */
function tooFew({ accepted, root }: Collecting, { cohortMin, collectMs }: RoundPolicy): string {
  const clients = accepted.filter(({ agentId }) => agentId !== root).length;
  if (clients >= cohortMin) return `the update of evaluator ${root ?? ''} did not come within ${collectMs} ms`;
  return `${clients} of at least ${cohortMin} updates came within ${collectMs} ms`;
}

type Publishing = Extract<RoundState, { phase: 'Publishing' }>;

/** What follows a round that is closed. */
function afterRound(state: Publishing, startAtMs: number): Idle {
  const { published: count, round, surplus, version } = state;
  const was = surplus === undefined ? {} : { surplus };
  return { phase: 'Idle', round, published: count, version, startAtMs, ...was, ...kept(state) };
}

/** The next rounds are evaluations of what this one made. */
function proposed(state: Publishing, { nowMs, candidate }: Extract<RoundEvent, { type: 'Proposed' }>): Idle {
  return { ...afterRound(state, nowMs), candidate };
}

/** The task goes on from the champion; whose update was refused is in no version. */
const refused = (state: Publishing, { nowMs }: { nowMs: number }, { pauseMs }: RoundPolicy): Idle =>
  afterRound(state, nowMs + pauseMs);

function published(
  state: Publishing,
  { nowMs, version, agents }: Extract<RoundEvent, { type: 'Published' }>,
  policy: RoundPolicy,
): Step {
  const next: Idle = {
    ...afterRound(state, nowMs + policy.pauseMs),
    published: state.published + 1,
    version,
    ...(policy.oncePerVersion === true ? { measured: version } : {}),
    ...withVersionOf({ ...state, round: turnOf(state) }, agents, policy.separation),
  };
  return still(next);
}

function without(away: Readonly<Record<string, number>>, agentId: string): Readonly<Record<string, number>> {
  const { [agentId]: _, ...rest } = away;
  return rest;
}

/**
 * A task without rounds: the same machine with a buffer in place of the cohort. `Collecting` is the buffer of one version; agents are invited
 * as they come free, each at most once a version, and deliver into whichever buffer is open then.
 */
import { seeded, type Asynchronous } from '@commonweight/core';
import { restingIn, withVersionOf } from './separation.ts';
import {
  withOut,
  type Collecting,
  type Idle,
  type OfferedUpdate,
  type PhaseEvent,
  type RoundEvent,
  type RoundPolicy,
  type RoundState,
  type Step,
  type Verdict,
} from './round.ts';

type BufferPolicy = RoundPolicy & { asynchronous: Asynchronous };

/** Judges an update by the state alone. While a version is being committed it is judged as after it: agents never hear of the difference. */
export function bufferVerdict(state: RoundState, update: OfferedUpdate, { stalenessMax }: Asynchronous): Verdict {
  if (state.phase === 'Idle' || update.round > state.round) return 'stale-round';
  if (state.accepted.some(({ updateId }) => updateId === update.updateId)) return 'duplicate';
  if (update.baseVersion > state.version || update.baseVersion < 1) return 'wrong-base-version';
  if (update.baseVersion < (state.oldestBase ?? 0)) return 'stale-round';
  if (state.version - update.baseVersion > stalenessMax) return 'stale-round';
  // One agent, one update a version: whoever sends more would count more.
  return state.accepted.some(({ agentId }) => agentId === update.agentId) ? 'not-collecting' : 'accepted';
}

export function bufferStep(state: RoundState, event: PhaseEvent, policy: BufferPolicy): Step {
  switch (state.phase) {
    case 'Idle':
      return event.type === 'Tick' ? begun(state, event, policy) : still(state);
    case 'Collecting':
      return buffering(state, event, policy);
    case 'Publishing':
      if (event.type === 'Published') return published(state, event, policy);
      if (event.type === 'Refused') return still(refused(state, event, policy));
      return event.type === 'Withdrawn'
        ? still(withdrawn({ ...state, phase: 'Collecting' }, event.updateIds))
        : still(state);
  }
}

const still = (state: RoundState): Step => ({ state, effects: [] });

function begun(state: Idle, { nowMs, ready }: Extract<RoundEvent, { type: 'Tick' }>, policy: BufferPolicy): Step {
  const { published: count, version } = state;
  if (policy.roundsMax > 0 && count >= policy.roundsMax) return { state, effects: [{ type: 'Finish' }] };
  if (ready.length === 0) return still(state);
  const opened = bufferOf(state, nowMs, policy);
  const cohort = drawn(opened, ready, policy);
  return {
    state: invited(opened, cohort, nowMs, policy),
    effects: [{ type: 'Invite', round: opened.round, version, cohort }],
  };
}

type BufferStart = Pick<Collecting, 'round' | 'published' | 'version' | 'oldestBase' | 'recent'>;

/** An empty buffer for the version that is newest now. */
function bufferOf(
  { round, published: count, version, oldestBase, recent }: BufferStart,
  nowMs: number,
  policy: BufferPolicy,
): Collecting {
  return {
    phase: 'Collecting',
    round: round + 1,
    published: count,
    version,
    cohort: [],
    accepted: [],
    away: {},
    training: {},
    deadlineMs: nowMs + policy.collectMs,
    quietMs: nowMs,
    ...(oldestBase === undefined ? {} : { oldestBase }),
    ...(recent === undefined ? {} : { recent }),
  };
}

function buffering(state: Collecting, event: PhaseEvent, policy: BufferPolicy): Step {
  switch (event.type) {
    case 'Tick':
      return ticked(state, event, policy);
    case 'UpdateReceived': {
      if (bufferVerdict(state, event, policy.asynchronous) !== 'accepted') return still(state);
      const { agentId, updateId } = event;
      const accepted = [...state.accepted, { agentId, updateId }];
      const next = { ...freed(state, event), accepted };
      return accepted.length >= policy.asynchronous.bufferSize ? publish(next) : still(next);
    }
    case 'AgentAway':
      // It may come back with an update, and nobody waits for that.
      return still(freed(state, event));
    case 'AgentOut':
      return still(event.round === state.round ? withOut(freed(state, event), event.agentId) : freed(state, event));
    case 'AgentBack':
    // Without rounds nobody hands in parts.
    case 'PartReceived':
    case 'Published':
    case 'Proposed':
    case 'Refused':
      return still(state);
    case 'Recovered':
      // The sum died with the process; the updates live in their agents' outboxes and are offered again. Who trains was known to it alone.
      return still({ ...bufferOf(state, event.nowMs, policy), round: state.round });
    case 'Withdrawn':
      return still(withdrawn(state, event.updateIds));
  }
}

function ticked(
  state: Collecting,
  { nowMs, ready }: Extract<RoundEvent, { type: 'Tick' }>,
  policy: BufferPolicy,
): Step {
  // Whoever is free has no training any more, and whoever trains for too long holds up nobody.
  const late = Object.entries(state.training ?? {}).flatMap(([agentId, endMs]) => (nowMs >= endMs ? [agentId] : []));
  const current = { ...state, training: without(state.training, [...ready, ...late]) };
  const cohort = drawn(current, ready, policy);
  if (cohort.length > 0) {
    const next = invited(current, cohort, nowMs, policy);
    return { state: next, effects: [{ type: 'InviteMore', round: state.round, version: state.version, cohort }] };
  }
  const isEnough = state.accepted.length >= policy.cohortMin;
  const isQuiet = Object.keys(current.training).length === 0 && nowMs >= (state.quietMs ?? 0) + policy.gatherMs;
  if (isEnough && (isQuiet || nowMs >= state.deadlineMs)) return publish(current);
  if (nowMs < state.deadlineMs) return late.length === 0 ? still(state) : still(current);
  // Too few came: those who brought nothing are invited once more.
  return still({ ...current, cohort: [], away: {}, deadlineMs: nowMs + policy.collectMs });
}

/** Agents that are free and were not invited on this version yet, as many as may train at once. */
function drawn(state: Collecting, ready: readonly string[], policy: BufferPolicy): readonly string[] {
  const places = policy.cohortMax - Object.keys(state.training ?? {}).length;
  const resting = restingIn(state.round, state, policy.separation);
  const known = new Set([...state.cohort, ...state.accepted.map(({ agentId }) => agentId), ...resting]);
  const free = ready.filter((agentId) => !known.has(agentId)).sort();
  if (places <= 0 || free.length === 0) return [];
  return seeded(policy.seed).fork(`buffer ${state.round} ${state.cohort.length}`).shuffle(free).slice(0, places).sort();
}

function invited(state: Collecting, cohort: readonly string[], nowMs: number, policy: BufferPolicy): Collecting {
  const endMs = nowMs + policy.collectMs;
  return {
    ...state,
    cohort: [...state.cohort, ...cohort],
    training: { ...state.training, ...Object.fromEntries(cohort.map((agentId) => [agentId, endMs])) },
  };
}

function publish(state: Collecting): Step {
  const { accepted, round, version } = state;
  return { state: { ...state, phase: 'Publishing' }, effects: [{ type: 'Publish', round, version, accepted }] };
}

/** What was refused is in no version; the next buffer is open at once. */
function refused(
  state: Extract<RoundState, { phase: 'Publishing' }>,
  { nowMs }: { nowMs: number },
  policy: BufferPolicy,
): Collecting {
  return { ...bufferOf(state, nowMs, policy), training: state.training ?? {} };
}

/** The next buffer is open at once: an update that comes meanwhile goes into it. */
function published(
  state: Extract<RoundState, { phase: 'Publishing' }>,
  { nowMs, version, agents }: Extract<RoundEvent, { type: 'Published' }>,
  policy: BufferPolicy,
): Step {
  const { round, oldestBase } = state;
  const count = state.published + 1;
  const from = {
    round,
    published: count,
    version,
    ...(oldestBase === undefined ? {} : { oldestBase }),
    ...withVersionOf(state, agents, policy.separation),
  };
  if (policy.roundsMax > 0 && count >= policy.roundsMax) {
    return still({ phase: 'Idle', ...from, startAtMs: nowMs });
  }
  const next = bufferOf(from, nowMs, policy);
  return still({ ...next, training: state.training ?? {} });
}

const freed = (state: Collecting, { agentId, nowMs }: { agentId: string; nowMs: number }): Collecting => ({
  ...state,
  training: without(state.training, [agentId]),
  quietMs: nowMs,
});

/** Their agents offer them again. */
function withdrawn(state: Collecting, updateIds: readonly string[]): Collecting {
  const accepted = state.accepted.filter(({ updateId }) => !updateIds.includes(updateId));
  return accepted.length === state.accepted.length ? state : { ...state, accepted };
}

function without(
  training: Readonly<Record<string, number>> | undefined,
  agents: readonly string[],
): Readonly<Record<string, number>> {
  const gone = new Set(agents);
  return Object.fromEntries(Object.entries(training ?? {}).filter(([agentId]) => !gone.has(agentId)));
}

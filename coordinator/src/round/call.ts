import type { Call } from '../return-time.ts';
import { turnOf, type RoundPolicy, type RoundState } from './round.ts';
import { roundsToRest } from './separation.ts';

/** Of the newest round in the mean of how long rounds take. */
const NEWEST_SHARE = 0.3;

/** How long rounds take, once another has ended. */
export const typicalMs = (before: number | undefined, roundMs: number): number =>
  Math.round(before === undefined ? roundMs : before + NEWEST_SHARE * (roundMs - before));

/** When a round was opened, or given its time anew. */
export const openedMs = ({ deadlineMs }: { deadlineMs: number }, { collectMs }: RoundPolicy): number =>
  deadlineMs - collectMs;

/** When a task that runs wants an agent next, going by how long its rounds take; 0 is now. */
export function callOf(
  state: RoundState,
  policy: RoundPolicy,
  { agentId, nowMs, roundMs }: { agentId: string; nowMs: number; roundMs?: number | undefined },
): Call {
  // What an evaluation wants next is training again.
  const { inviteMax: places, pauseMs } = policy;
  const openMs = state.phase === 'Idle' ? 0 : Math.max(0, nowMs - openedMs(state, policy));
  // Of a first round nothing is known but how long it has been open: it is given as long again.
  const typical = roundMs ?? 2 * openMs;
  const periodMs = typical + pauseMs;
  const restMs = roundsToRest(agentId, { ...state, round: turnOf(state) }, policy.separation) * periodMs;
  if (state.phase === 'Idle') return { inMs: Math.max(0, state.startAtMs - nowMs) + restMs, places, periodMs };
  // One that takes longer than others did is given a quarter of their time again.
  const leftMs = Math.max(typical - openMs, typical / 4);
  return { inMs: Math.max(0, Math.min(leftMs, state.deadlineMs - nowMs)) + pauseMs + restMs, places, periodMs };
}

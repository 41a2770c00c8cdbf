import type { Call } from '../return-time.ts';
import type { RoundPolicy, RoundState } from './round.ts';
import { roundsToRest } from './separation.ts';

/** What is expected of a round whose task has not had one yet. */
const ROUND_MS = 30_000;
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
  { agentId, nowMs, roundMs = ROUND_MS }: { agentId: string; nowMs: number; roundMs?: number | undefined },
): Call {
  const { inviteMax: places, pauseMs } = policy;
  const periodMs = roundMs + pauseMs;
  const restMs = roundsToRest(agentId, state, policy.separation) * periodMs;
  if (state.phase === 'Idle') return { inMs: Math.max(0, state.startAtMs - nowMs) + restMs, places, periodMs };
  const endMs = Math.max(
    openedMs(state, policy) + roundMs,
    // It takes longer than others did: nobody knows how much.
    nowMs + roundMs / 4,
  );
  return { inMs: Math.max(0, Math.min(endMs, state.deadlineMs) - nowMs) + pauseMs + restMs, places, periodMs };
}

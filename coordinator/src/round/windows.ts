/**
 * When a round closes: two windows, one of counts and one of time, as xaynet's phases have them. At the earliest with the minimum of
 * updates once the minimum of time has passed, at the latest with the maximum of either.
 */
import { OUT, type Collecting, type RoundPolicy } from './round.ts';

/** A round that closes, or is given up; undefined goes on collecting. */
export type Closing = 'full' | 'enough' | 'too-few';

export function closingOf(state: Collecting, nowMs: number, policy: RoundPolicy): Closing | undefined {
  const { accepted, deadlineMs, root } = state;
  // The evaluator's update is the measure of the others, and none of them.
  const clients = accepted.filter(({ agentId }) => agentId !== root).length;
  const isRooted = root === undefined || clients < accepted.length;
  // Nobody is left to wait for, or nobody more is wanted: the windows of time are for those who may still come.
  if (isRooted && clients >= updatesMax(state, policy)) return 'full';
  const isLate = nowMs >= deadlineMs;
  if (!isRooted || clients < policy.cohortMin) return isLate ? 'too-few' : undefined;
  return isLate || (isRipe(state, nowMs, policy) && isAwaitedNoMore(state, nowMs, policy)) ? 'enough' : undefined;
}

/** Updates with which a round closes at once. */
export const updatesMax = ({ cohort, root }: Collecting, { cohortMax }: RoundPolicy): number =>
  Math.min(cohortMax, cohort.length - (root === undefined ? 0 : 1));

/** Whether the minimum of time has passed. What gives a round its time anew moves its deadline, and with that its beginning. */
function isRipe({ deadlineMs }: Collecting, nowMs: number, { collectMs, collectMinMs = 0 }: RoundPolicy): boolean {
  return nowMs >= deadlineMs - collectMs + collectMinMs;
}

/** With a minimum of time the minimum of updates is enough after it; without, a round waits for everybody who may still deliver. */
function isAwaitedNoMore(
  { accepted, away, cohort }: Collecting,
  nowMs: number,
  { collectMinMs, graceMs }: RoundPolicy,
): boolean {
  if (collectMinMs !== undefined) return true;
  const delivered = new Set(accepted.map(({ agentId }) => agentId));
  return cohort.every((agentId) => {
    const awayMs = away[agentId];
    return (awayMs !== undefined && (awayMs === OUT || nowMs - awayMs >= graceMs)) || delivered.has(agentId);
  });
}

/** The agents of a full round that it does not need any more. */
export interface Surplus {
  round: number;
  agents: readonly string[];
}

/** Undefined where everybody who was invited delivered. */
export function surplusOf({ accepted, cohort, round }: Collecting): Surplus | undefined {
  const delivered = new Set(accepted.map(({ agentId }) => agentId));
  const agents = cohort.filter((agentId) => !delivered.has(agentId));
  return agents.length === 0 ? undefined : { round, agents };
}

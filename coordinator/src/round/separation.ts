/** Agents that are in the versions of the last rounds, which a task with a separation does not invite again yet. */
export type Recent = readonly { round: number; agents: readonly string[] }[];

/** What a round knows of those before it. */
interface Knowing {
  round: number;
  recent?: Recent;
}

/** Agents that may not be in a round: they took part in one of the `separation` rounds before it. */
export function restingIn(round: number, { recent = [] }: Pick<Knowing, 'recent'>, separation: number): Set<string> {
  return new Set(recent.flatMap((one) => (one.round >= round - separation ? one.agents : [])));
}

/** Rounds after the one that is open, or was last, which an agent still has to leave out. */
export function roundsToRest(agentId: string, { round, recent = [] }: Knowing, separation: number): number {
  const last = recent.findLast(({ agents }) => agents.includes(agentId));
  return last === undefined ? 0 : Math.max(0, last.round + separation - round);
}

/** The same with the agents of the version that a round became, and without rounds that are too long ago to matter. */
export function withVersionOf(
  { round, recent = [] }: Knowing,
  agents: readonly string[],
  separation: number,
): { recent?: Recent } {
  if (separation === 0) return {};
  const kept = recent.filter((one) => one.round > round - separation);
  return { recent: [...kept, { round, agents: agents.toSorted() }] };
}

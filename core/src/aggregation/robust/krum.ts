import { meanOf } from './combination.ts';
import { eachBlock, type RobustAggregate, type UpdateBlocks } from './updates.ts';

/**
 * The mean of the `keep` updates whose nearest neighbours are nearest: the score of an update is the sum of its squared distances to the
 * n − attackers − 2 updates nearest to it (to one at least). Of equal scores the first update wins. Keeping one is Krum.
 * Source: Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", sections 3 and 4.
 */
export function multiKrum(
  updates: UpdateBlocks,
  { attackers, keep }: { attackers: number; keep: number },
): RobustAggregate {
  const everybody = Array.from({ length: updates.count }, (_, update) => update);
  const scores = krumScores(squaredDistances(updates), everybody, attackers);
  const kept = everybody
    // Sorting is stable: of equal scores the first update stays first.
    .toSorted((a, b) => (scores[a] ?? 0) - (scores[b] ?? 0))
    .slice(0, keep)
    .sort((a, b) => a - b);
  return { delta: meanOf(updates, kept), kept };
}

/** The squared distance of two updates, by their numbers. */
export type SquaredDistance = (a: number, b: number) => number;

/**
 * The distances of all pairs, as sums of squared differences: products of whole vectors would cancel where updates are close to each
 * other and far from zero.
 */
export function squaredDistances(updates: UpdateBlocks): SquaredDistance {
  const { squaredDistances: matrix } = eachBlock(updates, (rows) => rows.addSquaredDistances());
  return (a, b) => matrix[Math.min(a, b) * updates.count + Math.max(a, b)] ?? 0;
}

/** Krum's scores of the updates named, in their order, each among these only. */
export function krumScores(distance: SquaredDistance, among: readonly number[], attackers: number): number[] {
  const neighbours = Math.max(1, among.length - attackers - 2);
  return among.map((update) => {
    const distances = among.filter((other) => other !== update).map((other) => distance(update, other));
    return Float64Array.from(distances)
      .sort()
      .subarray(0, neighbours)
      .reduce((sum, value) => sum + value, 0);
  });
}

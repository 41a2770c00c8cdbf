import { combine } from './combination.ts';
import type { RobustAggregate, UpdateBlocks } from './updates.ts';

/**
 * The point with the smallest weighted sum of distances to the updates, by Weiszfeld's iteration from zero; distances below `smoothing`
 * count as it. Source: Pillutla, Kakade, Harchaoui 2022, "Robust Aggregation for Federated Learning" (RFA), algorithm 2.
 */
export function geometricMedian(
  updates: UpdateBlocks,
  { smoothing, iterations }: { smoothing: number; iterations: number },
): RobustAggregate {
  let { point, distances } = combine(updates, { shares: updates.weights.map(() => 0) });
  for (let i = 0; i < iterations; i++) {
    const pulls = distances.map((distance, update) => (updates.weights[update] ?? 0) / Math.max(smoothing, distance));
    const total = pulls.reduce((sum, pull) => sum + pull, 0);
    ({ point, distances } = combine(updates, { shares: pulls.map((pull) => pull / total) }));
  }
  return { delta: point };
}

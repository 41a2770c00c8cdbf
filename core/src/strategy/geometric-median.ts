import { geometricMedian as rule } from '../aggregation/robust/geometric-median.ts';
import { fedAvg } from './fed-avg.ts';
import { requirePositive, requireWhole, robust, type RobustOptions } from './robust.ts';
import type { Strategy } from './strategy.ts';

/**
 * The point nearest to all updates, each weighted by its examples. The paper takes 3 iterations, since each of its own costs a round of
 * messages; here each costs a pass over the updates.
 * Source: Pillutla, Kakade, Harchaoui 2022, "Robust Aggregation for Federated Learning" (RFA).
 */
export function geometricMedian({
  smoothing = 1e-6,
  iterations = 8,
  ...options
}: { smoothing?: number; iterations?: number } & RobustOptions = {}): Strategy {
  requirePositive('geometricMedian', 'smoothing', smoothing);
  requireWhole('geometricMedian', 'iterations', iterations, 1, 100);
  return {
    ...robust('geometricMedian', (updates) => rule(updates, { smoothing, iterations }), options),
    weigh: fedAvg().weigh,
  };
}

import { normBoundedMean } from '../aggregation/robust/clipping.ts';
import { fedAvg } from './fed-avg.ts';
import { requirePositive, robust, type RobustOptions } from './robust.ts';
import type { Strategy } from './strategy.ts';

/**
 * The weighted mean of the updates, each shortened to `normMax`; by default that is the median norm of the round.
 * Source: Sun, Kairouz, Suresh, McMahan 2019, "Can You Really Backdoor Federated Learning?".
 */
export function normBound({ normMax, ...options }: { normMax?: number } & RobustOptions = {}): Strategy {
  requirePositive('normBound', 'normMax', normMax);
  return {
    ...robust('normBound', (updates) => normBoundedMean(updates, normMax), options),
    weigh: fedAvg().weigh,
  };
}

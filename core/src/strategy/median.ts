import { coordinateMedian } from '../aggregation/robust/order-statistics.ts';
import { robust, type RobustOptions } from './robust.ts';
import type { Strategy } from './strategy.ts';

/**
 * The median of each parameter: holds against any attackers that are fewer than half.
 * Source: Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates".
 */
export function median(options: RobustOptions = {}): Strategy {
  return robust('median', coordinateMedian, options);
}

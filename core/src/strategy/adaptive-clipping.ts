import { adaptiveClipping as rule } from '../aggregation/robust/adaptive-norm.ts';
import { fedAvg } from './fed-avg.ts';
import { requirePositive, requireShare, robust, type RobustOptions } from './robust.ts';
import type { Strategy } from './strategy.ts';

/**
 * The weighted mean of the updates, each shortened to an estimate of the `quantile` of their norms that follows them from round to round.
 * Source: Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping", without its noise.
 */
export function adaptiveClipping({
  quantile = 0.5,
  learningRate = 0.2,
  firstNorm,
  ...options
}: { quantile?: number; learningRate?: number; firstNorm?: number } & RobustOptions = {}): Strategy {
  requireShare('adaptiveClipping', 'quantile', quantile);
  requirePositive('adaptiveClipping', 'learningRate', learningRate);
  requirePositive('adaptiveClipping', 'firstNorm', firstNorm);
  const estimating = { quantile, learningRate, firstNorm };
  const base = robust('adaptiveClipping', (updates, memory) => rule(updates, memory, estimating), options);
  return {
    ...base,
    weigh: fedAvg().weigh,
    improve: (weights, delta, memory, round) => ({ ...base.improve(weights, delta, [], round), memory }),
  };
}

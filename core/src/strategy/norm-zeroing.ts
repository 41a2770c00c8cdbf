import { normZeroing as rule } from '../aggregation/robust/adaptive-norm.ts';
import { requirePositive, requireShare, robust, type RobustOptions } from './robust.ts';
import type { Strategy } from './strategy.ts';

/**
 * The mean of the updates, without those that are far longer than updates use to be: `multiplier` times an estimate of the `quantile` of
 * the norms, plus `increment`. The estimate follows the norms from round to round. TensorFlow Federated's zeroing, which is meant for
 * broken agents, follows the quantile 0.98; here it is the median, which a fifth of attackers does not move far.
 * Source: Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping", for the estimate.
 */
export function normZeroing({
  quantile = 0.5,
  learningRate = 0.2,
  multiplier = 2,
  increment = 0,
  firstNorm,
  ...options
}: {
  quantile?: number;
  learningRate?: number;
  multiplier?: number;
  increment?: number;
  firstNorm?: number;
} & RobustOptions = {}): Strategy {
  requireShare('normZeroing', 'quantile', quantile);
  requirePositive('normZeroing', 'learningRate', learningRate);
  requirePositive('normZeroing', 'multiplier', multiplier);
  requirePositive('normZeroing', 'firstNorm', firstNorm);
  const estimating = { quantile, learningRate, firstNorm, multiplier, increment };
  const base = robust('normZeroing', (updates, memory) => rule(updates, memory, estimating), options);
  return {
    ...base,
    improve: (weights, delta, memory, round) => ({ ...base.improve(weights, delta, [], round), memory }),
  };
}

import { centredClipping as rule } from '../aggregation/robust/clipping.ts';
import { requirePositive, requireWhole, robust, type RobustOptions } from './robust.ts';
import type { Strategy } from './strategy.ts';

/**
 * From the delta of the round before, a mean step towards the updates, each step no longer than `clipNorm`; by default that is the median
 * distance of the round, since what is long depends on model and plan.
 * Source: Karimireddy, He, Jaggi 2021, "Learning from History for Byzantine Robust Optimization".
 */
export function centredClipping({
  clipNorm,
  iterations = 1,
  ...options
}: { clipNorm?: number; iterations?: number } & RobustOptions = {}): Strategy {
  requirePositive('centredClipping', 'clipNorm', clipNorm);
  requireWhole('centredClipping', 'iterations', iterations, 1, 100);
  const base = robust(
    'centredClipping',
    (updates, [centre]) => rule(updates, centre, { clipNorm, iterations }),
    options,
  );
  return {
    ...base,
    improve: (weights, delta, _memory, round) => ({ ...base.improve(weights, delta, [], round), memory: [delta] }),
  };
}

import { fedAvg } from './fed-avg.ts';
import type { Strategy } from './strategy.ts';

/**
 * Federated averaging with server momentum: v = β·v + Δ, w = w + η·v.
 * Source: Hsu, Qi, Brown 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification".
 */
export function fedAvgM({
  serverLearningRate = 1,
  serverMomentum = 0.9,
}: { serverLearningRate?: number; serverMomentum?: number } = {}): Strategy {
  return {
    ...fedAvg(),
    name: 'fedAvgM',
    improve: (base, meanDelta, [before]) => {
      const velocity = meanDelta.map((delta, i) => serverMomentum * (before?.[i] ?? 0) + delta);
      const weights = base.map((value, i) => value + serverLearningRate * (velocity[i] ?? 0));
      return { weights, memory: [velocity] };
    },
  };
}

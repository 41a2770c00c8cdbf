import { fedAvg } from './fed-avg.ts';
import type { Strategy } from './strategy.ts';

/** What fedAdagrad, fedAdam and fedYogi have in common. */
export interface AdaptiveOptions {
  serverLearningRate?: number;
  /** Decay of the mean of the updates. */
  beta1?: number;
  /** How adaptive the step is: the smaller, the more. */
  tau?: number;
  /** What the second moment begins with; tau² by default, as the paper has it. */
  firstSecondMoment?: number;
}

/**
 * A server optimizer with a step of its own for each parameter: m = β₁·m + (1−β₁)·Δ, v by the recipe, w = w + η·m / (√v + τ). There is no
 * bias correction. Source: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2.
 */
export function adaptive(
  name: string,
  { serverLearningRate = 0.1, beta1 = 0.9, tau = 1e-3, firstSecondMoment = tau * tau }: AdaptiveOptions,
  secondMoment: (before: number, deltaSquared: number) => number,
): Strategy {
  return {
    ...fedAvg(),
    name,
    improve: (base, meanDelta, [m, v]) => {
      const mean = meanDelta.map((delta, i) => beta1 * (m?.[i] ?? 0) + (1 - beta1) * delta);
      const moment = meanDelta.map((delta, i) => secondMoment(v?.[i] ?? firstSecondMoment, delta * delta));
      const weights = base.map(
        (value, i) => value + (serverLearningRate * (mean[i] ?? 0)) / (Math.sqrt(moment[i] ?? 0) + tau),
      );
      return { weights, memory: [mean, moment] };
    },
  };
}

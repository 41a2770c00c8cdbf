import { fedAvg } from './fed-avg.ts';
import { accumulatedRate, requireLinear, type LocalMethod } from './local-method.ts';
import type { Strategy } from './strategy.ts';

/** Local steps of one round that an update can tell of. */
const STEPS_MAX = 2 ** 16;

/**
 * Normalised averaging: each delta is divided by the steps behind it, so that who steps more does not pull the model to its own optimum;
 * the mean is taken as far as the agents went on the mean, w = w + η·Σ p·a·Σ p·Δ/a with p the shares of the examples.
 * Source: Wang et al. 2020, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization", equation 6.
 */
export function fedNova({ serverLearningRate = 1 }: { serverLearningRate?: number } = {}): Strategy {
  return {
    ...fedAvg(),
    name: 'fedNova',
    instruct: (plan) => {
      requireLinear('fedNova', plan);
      return { ...plan, local: { name: 'fedNova' } };
    },
    improve: (base, mean, _memory, { numbers: [steps = 0] }) => ({
      weights: base.map((value, i) => value + serverLearningRate * steps * (mean[i] ?? 0)),
      memory: [],
    }),
  };
}

/** The agent's half: the delta of one step, and how many there were. */
export function fedNovaLocal(): LocalMethod {
  return {
    shape: { vectors: 1, numbersMax: [STEPS_MAX] },
    report: ({ delta, plan, steps }) => {
      const taken = accumulatedRate(plan, steps);
      return { vectors: [delta.map((value) => value / taken)], numbers: [taken] };
    },
  };
}

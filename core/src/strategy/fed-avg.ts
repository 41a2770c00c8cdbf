import type { Strategy } from './strategy.ts';

/** Federated averaging. Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data". */
export function fedAvg({ serverLearningRate = 1 }: { serverLearningRate?: number } = {}): Strategy {
  return {
    name: 'fedAvg',
    instruct: (plan) => plan,
    weigh: (examples, weightMax) => Math.max(1, Math.min(weightMax, Math.round(examples))),
    improve: (base, meanDelta) => ({
      weights: base.map((value, i) => value + serverLearningRate * (meanDelta[i] ?? 0)),
      memory: [],
    }),
  };
}

import { DELTA_ONLY } from '../weights/packed.ts';
import { fedAvg } from './fed-avg.ts';
import type { LocalMethod, LocalOptions } from './local-method.ts';
import type { Strategy } from './strategy.ts';

/**
 * Federated averaging, beside which each agent trains a model of its own that is held near the common one by lambda/2 · ‖v − w‖² and
 * never leaves it. Source: Li et al. 2021, "Ditto: Fair and Robust Federated Learning Through Personalization", algorithm 1.
 */
export function ditto({
  lambda = 0.1,
  serverLearningRate = 1,
}: { lambda?: number; serverLearningRate?: number } = {}): Strategy {
  return {
    ...fedAvg({ serverLearningRate }),
    name: 'ditto',
    instruct: (plan) => ({ ...plan, local: { name: 'ditto', lambda } }),
  };
}

export function dittoLocal({ lambda = 0.1 }: LocalOptions): LocalMethod {
  return {
    shape: DELTA_ONLY,
    report: ({ delta }) => ({ vectors: [delta], numbers: [] }),
    personal: ({ local: _, ...plan }) => ({ ...plan, proximalMu: lambda }),
  };
}

import { fedAvg } from './fed-avg.ts';
import type { Strategy } from './strategy.ts';

/**
 * Federated averaging whose agents are held near the round's base by mu/2 · ‖w − base‖².
 * Source: Li et al. 2020, "Federated Optimization in Heterogeneous Networks".
 */
export function fedProx(options: { mu?: number; serverLearningRate?: number } = {}): Strategy {
  const { mu = 0.01, ...server } = options;
  return { ...fedAvg(server), name: 'fedProx', instruct: (plan) => ({ ...plan, proximalMu: mu }) };
}

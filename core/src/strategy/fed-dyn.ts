import { fedAvg } from './fed-avg.ts';
import type { LocalMethod, LocalOptions } from './local-method.ts';
import { requirePositive, requireWhole } from './robust.ts';
import { AGENTS_MAX } from './scaffold.ts';
import type { Strategy } from './strategy.ts';

/**
 * Dynamic regularisation: each agent's objective gets a linear and a quadratic term that move its optimum to where all agents agree. Of
 * `agents` in all some take part in a round (all of them, where it is not said).
 * Source: Acar et al. 2021, "Federated Learning Based on Dynamic Regularization", algorithm 1.
 */
export function fedDyn({ alpha = 0.01, agents }: { alpha?: number; agents?: number } = {}): Strategy {
  requirePositive('fedDyn', 'alpha', alpha);
  if (agents !== undefined) requireWhole('fedDyn', 'agents', agents, 1, AGENTS_MAX);
  return {
    ...fedAvg(),
    name: 'fedDyn',
    instruct: (plan) => ({ ...plan, proximalMu: alpha, local: { name: 'fedDyn', alpha } }),
    weigh: () => 1,
    improve: (base, mean, [drift], { updates }) => {
      const share = Math.min(1, updates / (agents ?? updates));
      const next = mean.map((delta, i) => (drift?.[i] ?? 0) - alpha * share * delta);
      return {
        weights: base.map((value, i) => value + (mean[i] ?? 0) - (next[i] ?? 0) / alpha),
        memory: [next],
      };
    },
  };
}

/** The agent's half: it keeps the gradient g of its last optimum, which becomes g − α·Δ, and trains on its loss − ⟨g, w⟩. */
export function fedDynLocal({ alpha = 0.01 }: LocalOptions): LocalMethod {
  return {
    shape: { vectors: 1, numbersMax: [] },
    correction: ({ base, kept }) => base.map((_, i) => -(kept?.[i] ?? 0)),
    report: ({ delta, kept }) => ({
      vectors: [delta],
      numbers: [],
      kept: delta.map((value, i) => (kept?.[i] ?? 0) - alpha * value),
    }),
  };
}

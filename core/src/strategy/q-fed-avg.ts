import { fedAvg } from './fed-avg.ts';
import type { LocalMethod, LocalOptions } from './local-method.ts';
import type { Strategy } from './strategy.ts';

/** Largest normaliser that an update can tell of. */
const NORMALISER_MAX = 1024;

/**
 * Fair averaging: an agent counts by the q-th power of its loss, so that the model gets better where it is worst; `q` 0 is a plain mean.
 * `lipschitz` is the paper's L; by default it is 1 over the local learning rate, as there.
 * Source: Li et al. 2020, "Fair Resource Allocation in Federated Learning", algorithm 2, both sides of the step divided by L.
 */
export function qFedAvg({ q = 1, lipschitz }: { q?: number; lipschitz?: number } = {}): Strategy {
  return {
    ...fedAvg(),
    name: 'qFedAvg',
    instruct: (plan) => ({
      ...plan,
      local: { name: 'qFedAvg', q, lipschitz: lipschitz ?? 1 / plan.optimizer.learningRate },
    }),
    weigh: () => 1,
    improve: (base, mean, _memory, { numbers: [normaliser = 0] }) => ({
      // All losses are 0: there is nothing to learn, and the deltas are weighted by 0 too.
      weights: normaliser === 0 ? base : base.map((value, i) => value + (mean[i] ?? 0) / normaliser),
      memory: [],
    }),
  };
}

/** The agent's half: F^q·Δ and the normaliser q·F^(q−1)·L·‖Δ‖² + F^q, with F the loss of the base. */
export function qFedAvgLocal({ q = 1, lipschitz = 1 }: LocalOptions): LocalMethod {
  return {
    shape: { vectors: 1, numbersMax: [NORMALISER_MAX] },
    needsBaseLoss: true,
    report: ({ delta, baseLoss = 0 }) => {
      // The paper's code adds as much, so that q − 1 below 0 does not divide by it.
      const loss = baseLoss + 1e-10;
      const square = delta.reduce((sum, value) => sum + value * value, 0);
      const weight = loss ** q;
      return {
        vectors: [delta.map((value) => weight * value)],
        numbers: [q * loss ** (q - 1) * lipschitz * square + weight],
      };
    },
  };
}

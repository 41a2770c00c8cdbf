import { fedAvg } from './fed-avg.ts';
import { accumulatedRate, requireLinear, type LocalMethod } from './local-method.ts';
import { requireWhole } from './robust.ts';
import type { Strategy } from './strategy.ts';

/** Agents that a task can have in all. */
export const AGENTS_MAX = 1_000_000;

/**
 * Control variates: each agent keeps in mind where its own gradients point, the server where all of them do, and every local step is
 * corrected by the difference. Of `agents` in all some take part in a round (all of them, where it is not said), so that the server's
 * variate moves by their share. Source: Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
 * algorithm 1 with option II.
 */
export function scaffold({
  serverLearningRate = 1,
  agents,
}: { serverLearningRate?: number; agents?: number } = {}): Strategy {
  if (agents !== undefined) requireWhole('scaffold', 'agents', agents, 1, AGENTS_MAX);
  return {
    ...fedAvg(),
    name: 'scaffold',
    instruct: (plan) => {
      requireLinear('scaffold', plan);
      return { ...plan, local: { name: 'scaffold' } };
    },
    weigh: () => 1,
    improve: (base, mean, [variate], { updates, vectors: [meanChange] }) => {
      const share = Math.min(1, updates / (agents ?? updates));
      return {
        weights: base.map((value, i) => value + serverLearningRate * (mean[i] ?? 0)),
        memory: [base.map((_, i) => (variate?.[i] ?? 0) + share * (meanChange?.[i] ?? 0))],
      };
    },
  };
}

/** The agent's half: it keeps its variate c', which becomes c' − c − Δ / (steps · rate), and sends by how much that changed. */
export function scaffoldLocal(): LocalMethod {
  return {
    shape: { vectors: 2, numbersMax: [] },
    needsMemory: true,
    correction: ({ base, memory: [server], kept }) => base.map((_, i) => (server?.[i] ?? 0) - (kept?.[i] ?? 0)),
    report: ({ delta, memory: [server], kept, plan, steps }) => {
      const scale = 1 / (plan.optimizer.learningRate * accumulatedRate(plan, steps));
      const change = delta.map((value, i) => -(server?.[i] ?? 0) - value * scale);
      return { vectors: [delta, change], numbers: [], kept: change.map((value, i) => value + (kept?.[i] ?? 0)) };
    },
  };
}

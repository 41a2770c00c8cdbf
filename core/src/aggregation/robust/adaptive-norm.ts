import { combine } from './combination.ts';
import type { RobustAggregate, UpdateBlocks } from './updates.ts';

/** How an estimate of a quantile of the norms follows them from round to round. */
export interface QuantileOptions {
  /** Share of the updates that are to be no longer than the estimate. */
  quantile: number;
  /** Of a geometric step: the estimate changes by at most e to this. */
  learningRate: number;
  /** The estimate of the first round; the quantile of its norms where it is not said. */
  firstNorm?: number | undefined;
}

/**
 * An estimate after a round: times e to the learning rate × (the share that was too long − the share that may be).
 * Source: Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping", section 2.1, without its noise.
 */
export function nextEstimate(estimate: number, norms: readonly number[], options: QuantileOptions): number {
  const { quantile, learningRate } = options;
  const within = norms.filter((norm) => norm <= estimate).length / norms.length;
  return estimate * Math.exp(-learningRate * (within - quantile));
}

/** The weighted mean of the updates, each shortened to the estimate, which then follows. */
export function adaptiveClipping(
  updates: UpdateBlocks,
  memory: readonly Float32Array[],
  options: QuantileOptions,
): RobustAggregate {
  const norms = normsOf(updates);
  const bound = estimateOf(memory, norms, options);
  const total = updates.weights.reduce((sum, weight) => sum + weight, 0);
  const shares = updates.weights.map((weight, i) => (weight / total) * Math.min(1, bound / (norms[i] || 1)));
  return { delta: combine(updates, { shares }).point, memory: [noted(nextEstimate(bound, norms, options), updates)] };
}

/** The weighted mean of the updates that are no longer than `multiplier` times the estimate plus `increment`; the others are left out. */
export function normZeroing(
  updates: UpdateBlocks,
  memory: readonly Float32Array[],
  { multiplier, increment, ...options }: QuantileOptions & { multiplier: number; increment: number },
): RobustAggregate {
  const norms = normsOf(updates);
  const estimate = estimateOf(memory, norms, options);
  const kept = [...norms.keys()].filter((i) => (norms[i] ?? 0) <= multiplier * estimate + increment);
  const total = kept.reduce((sum, i) => sum + (updates.weights[i] ?? 0), 0);
  const shares = norms.map((_, i) => (kept.includes(i) ? (updates.weights[i] ?? 0) / total : 0));
  return {
    delta: combine(updates, { shares }).point,
    kept,
    memory: [noted(nextEstimate(estimate, norms, options), updates)],
  };
}

const normsOf = (updates: UpdateBlocks): number[] =>
  combine(updates, { shares: updates.weights.map(() => 0) }).distances;

function estimateOf([memory]: readonly Float32Array[], norms: readonly number[], options: QuantileOptions): number {
  const known = memory?.[0];
  if (known !== undefined) return known;
  const ascending = norms.toSorted((a, b) => a - b);
  return options.firstNorm ?? ascending[Math.max(0, Math.ceil(options.quantile * norms.length) - 1)] ?? 0;
}

/** What a strategy remembers are vectors of the model's length: the estimate is the first value of one. */
function noted(estimate: number, { length }: UpdateBlocks): Float32Array {
  const memory = new Float32Array(length);
  memory[0] = estimate;
  return memory;
}

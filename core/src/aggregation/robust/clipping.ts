import { combine, type Combination } from './combination.ts';
import type { RobustAggregate, UpdateBlocks } from './updates.ts';

/**
 * From the centre, the mean step towards the updates, each step no longer than `clipNorm` (by default the median of the distances to the
 * centre). Source: Karimireddy, He, Jaggi 2021, "Learning from History for Byzantine Robust Optimization", section 5.
 */
export function centredClipping(
  updates: UpdateBlocks,
  centre: Float32Array | undefined,
  { clipNorm, iterations }: { clipNorm?: number | undefined; iterations: number },
): RobustAggregate {
  let at: Combination = {
    shares: updates.weights.map(() => 0),
    centre: centre && { point: centre, share: 1 },
  };
  let { point, distances } = combine(updates, at);
  for (let i = 0; i < iterations; i++) {
    const norm = clipNorm ?? lowerMedian(distances);
    const steps = distances.map((distance) => clipFactor(distance, norm) / updates.count);
    const stays = 1 - steps.reduce((sum, step) => sum + step, 0);
    at = {
      shares: steps.map((step, update) => step + stays * (at.shares[update] ?? 0)),
      centre: at.centre && { point: at.centre.point, share: stays * at.centre.share },
    };
    ({ point, distances } = combine(updates, at));
  }
  return { delta: point };
}

/**
 * The weighted mean of the updates, each shortened to `normMax` (by default the median of their norms). Source: Sun et al. 2019, "Can You
 * Really Backdoor Federated Learning?", section 4.
 */
export function normBoundedMean(updates: UpdateBlocks, normMax?: number): RobustAggregate {
  const { weights } = updates;
  const norms = combine(updates, { shares: weights.map(() => 0) }).distances;
  const bound = normMax ?? lowerMedian(norms);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const shares = weights.map((weight, update) => (weight / total) * clipFactor(norms[update] ?? 0, bound));
  return { delta: combine(updates, { shares }).point };
}

const clipFactor = (norm: number, normMax: number): number => (norm > normMax ? normMax / norm : 1);

/** Of an even number the lower one: half of the updates can not push it up. */
function lowerMedian(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[(values.length - 1) >> 1] ?? 0;
}

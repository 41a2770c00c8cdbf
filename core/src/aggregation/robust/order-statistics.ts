import type { RobustAggregate, UpdateBlocks } from './updates.ts';
import { eachBlock } from './updates.ts';

/** The median of each parameter; of an even number, the mean of the middle two. Source: Yin et al. 2018, definition 1. */
export function coordinateMedian(updates: UpdateBlocks): RobustAggregate {
  return middleMean(updates, Math.ceil(updates.count / 2) - 1);
}

/**
 * The mean of each parameter without the ⌊trim·n⌋ smallest and largest of its n values; `trim` is below 1/2.
 * Source: Yin et al. 2018, definition 2.
 */
export function trimmedMean(updates: UpdateBlocks, trim: number): RobustAggregate {
  // .29 · 100 is a little less than 29 in binary.
  return middleMean(updates, Math.floor(trim * updates.count + 1e-9));
}

/** The mean of what is left without `cut` values on both sides, summed from the smallest on. */
function middleMean(updates: UpdateBlocks, cut: number): RobustAggregate {
  const { count, length } = updates;
  const delta = new Float32Array(length);
  eachBlock(updates, (rows, start, end) => {
    rows.sortColumns();
    const sums = new Float64Array(end - start);
    for (let row = cut; row < count - cut; row++) {
      const values = rows.values.subarray(row * rows.width, row * rows.width + sums.length);
      for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] ?? 0) + (values[i] ?? 0);
    }
    for (let i = 0; i < sums.length; i++) delta[start + i] = (sums[i] ?? 0) / (count - 2 * cut);
  });
  return { delta };
}

import { eachRange, type UpdateBlocks } from './updates.ts';

/** A point among the updates: Σ share·update, and a share of a centre that is not one of them. */
export interface Combination {
  /** One share an update. */
  shares: readonly number[];
  centre?: { point: Float32Array; share: number } | undefined;
}

/** Values for which a sum stays in the cache while all updates pass. */
const SUM_VALUES = 8192;

/** The point of a combination, and the distance of every update from it: summed in float64 in the order of updates, parameter by parameter. */
export function combine(
  updates: UpdateBlocks,
  { shares, centre }: Combination,
): { point: Float32Array; distances: number[] } {
  const point = new Float32Array(updates.length);
  const squares = new Float64Array(updates.count);
  eachRange(updates, (ranges, rangeStart, rangeEnd) => {
    for (let start = rangeStart; start < rangeEnd; start += SUM_VALUES) {
      const end = Math.min(start + SUM_VALUES, rangeEnd);
      const sums = new Float64Array(end - start);
      if (centre !== undefined) addScaled(sums, centre.point.subarray(start, end), centre.share);
      const values = ranges.map((range) => range.subarray(start - rangeStart, end - rangeStart));
      for (const [update, share] of shares.entries()) {
        if (share !== 0) addScaled(sums, values[update] ?? new Float32Array(0), share);
      }
      point.set(sums, start);
      for (const [update, own] of values.entries()) {
        squares[update] = (squares[update] ?? 0) + squaredDistance(own, sums);
      }
    }
  });
  return { point, distances: Array.from(squares, Math.sqrt) };
}

/** The mean of the updates named, each counting alike. */
export function meanOf(updates: UpdateBlocks, named: readonly number[]): Float32Array {
  const delta = new Float32Array(updates.length);
  const only: UpdateBlocks = {
    count: named.length,
    length: updates.length,
    weights: named.map(() => 1),
    read: (i, start, end) => updates.read(named[i] ?? 0, start, end),
  };
  eachRange(only, (ranges, start, end) => {
    const sums = new Float64Array(end - start);
    for (const range of ranges) addScaled(sums, range, 1);
    for (let i = 0; i < sums.length; i++) delta[start + i] = (sums[i] ?? 0) / named.length;
  });
  return delta;
}

function addScaled(sums: Float64Array, values: Float32Array, scale: number): void {
  for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] ?? 0) + scale * (values[i] ?? 0);
}

function squaredDistance(values: Float32Array, from: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < from.length; i++) {
    const difference = (values[i] ?? 0) - (from[i] ?? 0);
    sum += difference * difference;
  }
  return sum;
}

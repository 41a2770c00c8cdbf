import type { Range } from './affine.ts';
import type { Histogram, HistogramState } from './histogram.ts';

/** How a range is chosen from what a value was seen to hold. */
export type CalibrationMethod = 'minmax' | 'percentile' | 'entropy' | 'mse';

export interface CalibrationOptions {
  method?: CalibrationMethod;
  /** Percent of the numbers that stay in range with `percentile`. */
  percentile?: number;
}

/** Levels of an eight-bit code. */
const LEVELS = 256;

export function rangeOf(histogram: Histogram, { method = 'minmax', percentile = 99.999 }: CalibrationOptions): Range {
  const state = histogram.state();
  return methods[method](state, percentile);
}

const methods: Readonly<Record<CalibrationMethod, (state: HistogramState, percentile: number) => Range>> = {
  minmax: ({ min, max }) => ({ min, max }),
  percentile: percentileRange,
  entropy: entropyRange,
  mse: mseRange,
};

/** Leaves out the same share of numbers at either end. */
function percentileRange(state: HistogramState, percentile: number): Range {
  const { counts, min, max } = state;
  const total = counts.reduce((sum, count) => sum + count, 0);
  const outside = (total * (1 - percentile / 100)) / 2;
  let [low, high, below, above] = [0, counts.length - 1, 0, 0];
  while (low < high && below + counts[low]! <= outside) below += counts[low++]!;
  while (high > low && above + counts[high]! <= outside) above += counts[high--]!;
  return { min: Math.max(min, edgeOf(state, low)), max: Math.min(max, edgeOf(state, high + 1)) };
}

/** Candidates between the whole range and a small part of it. */
const CANDIDATES = 128;

/** The shrunken range with the least squared error of rounding and clipping. */
function mseRange(state: HistogramState): Range {
  const { min, max } = state;
  let best = { min, max, error: Infinity };
  for (let step = 0; step < CANDIDATES; step++) {
    const share = 1 - step / CANDIDATES;
    const range = { min: Math.min(min, 0) * share, max: Math.max(max, 0) * share };
    const error = squaredError(state, range);
    if (error < best.error) best = { ...range, error };
  }
  return { min: best.min, max: best.max };
}

/** Rounding spreads evenly over a step, so its mean square is step^2 / 12; beyond the range the whole distance counts. */
function squaredError(state: HistogramState, { min, max }: Range): number {
  const rounding = ((max - min) / (LEVELS - 1)) ** 2 / 12;
  let error = 0;
  state.counts.forEach((count, index) => {
    if (count === 0) return;
    const value = centreOf(state, index);
    const outside = value < min ? min - value : value > max ? value - max : 0;
    error += count * (outside > 0 ? outside ** 2 : rounding);
  });
  return error;
}

/** The clipped range whose codes say most about the numbers: least Kullback-Leibler divergence (Migacz 2017). */
function entropyRange(state: HistogramState): Range {
  const { counts, min, max } = state;
  const positions = Array.from(counts, (_, index) => Math.abs(centreOf(state, index)));
  const width = 2 ** state.exponent;
  const magnitudes = new Float64Array(Math.floor(Math.max(...positions) / width) + 1);
  counts.forEach((count, index) => (magnitudes[Math.floor(positions[index]! / width)]! += count));
  // A sign takes one bit, so half the levels are left for either side.
  const levels = min < 0 ? LEVELS / 2 : LEVELS;
  if (magnitudes.length <= levels) return { min, max };
  let best = { bins: magnitudes.length, divergence: Infinity };
  for (let bins = levels; bins <= magnitudes.length; bins++) {
    const divergence = divergenceOf(magnitudes, bins, levels);
    if (divergence < best.divergence) best = { bins, divergence };
  }
  const limit = best.bins * width;
  return { min: Math.max(min, -limit), max: Math.min(max, limit) };
}

/** Divergence between the numbers clipped into `bins` bins, and the same after rounding to `levels` levels. */
function divergenceOf(counts: Float64Array, bins: number, levels: number): number {
  const clipped = counts.slice(0, bins);
  const within = clipped.reduce((sum, count) => sum + count, 0);
  const total = counts.reduce((sum, count) => sum + count, 0);
  clipped[bins - 1]! += total - within;
  let divergence = 0;
  for (let level = 0; level < levels; level++) {
    const [from, to] = [Math.floor((level * bins) / levels), Math.floor(((level + 1) * bins) / levels)];
    let [sum, filled] = [0, 0];
    for (let bin = from; bin < to; bin++) {
      sum += counts[bin]!;
      // Where the reference has mass the level must have some too.
      if (clipped[bin]! > 0) filled += 1;
    }
    for (let bin = from; bin < to; bin++) {
      const p = clipped[bin]! / total;
      if (p > 0) divergence += p * Math.log(p / Math.max(sum / filled / within, 1e-12));
    }
  }
  return divergence;
}

const edgeOf = (state: HistogramState, index: number): number => (state.first + index) * 2 ** state.exponent;
const centreOf = (state: HistogramState, index: number): number => edgeOf(state, index + 0.5);

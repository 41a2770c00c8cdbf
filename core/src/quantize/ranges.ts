import type { Range } from './affine.ts';
import type { Histogram, HistogramState } from './histogram.ts';

/** Ways to choose a range from what a value was seen to hold, by the names that people type. */
export const calibrationMethods = ['minmax', 'percentile', 'entropy', 'mse'] as const;
export type CalibrationMethod = (typeof calibrationMethods)[number];

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

/** The range with the least squared error of rounding and clipping: first the upper end is drawn in, then the lower. */
function mseRange(state: HistogramState): Range {
  const whole = { min: Math.min(state.min, 0), max: Math.max(state.max, 0) };
  const upper = leastError(state, (share) => ({ ...whole, max: whole.max * share }));
  return leastError(state, (share) => ({ ...upper, min: whole.min * share }));
}

function leastError(state: HistogramState, shrunken: (share: number) => Range): Range {
  let best = { range: shrunken(1), error: Infinity };
  for (let step = 0; step < CANDIDATES; step++) {
    const range = shrunken(1 - step / CANDIDATES);
    const error = squaredError(state, range);
    if (error < best.error) best = { range, error };
  }
  return best.range;
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

/** Magnitudes are counted in about this many bins, and thresholds tried in steps of a few. */
const MAGNITUDE_BINS = 2048;
const THRESHOLD_STEP = 4;

/** The clipped range whose codes say most about the numbers: least Kullback-Leibler divergence (Migacz 2017). */
function entropyRange(state: HistogramState): Range {
  const { min, max } = state;
  const { counts, width } = magnitudesOf(state);
  // A sign takes one bit, so half the levels are left for either side.
  const levels = min < 0 ? LEVELS / 2 : LEVELS;
  if (counts.length <= levels) return { min, max };
  const below = new Float64Array(counts.length + 1);
  counts.forEach((count, bin) => (below[bin + 1] = below[bin]! + count));
  let best = { bins: counts.length, divergence: Infinity };
  for (let bins = counts.length; bins >= levels; bins -= THRESHOLD_STEP) {
    const divergence = divergenceOf(counts, below, bins, levels);
    if (divergence < best.divergence) best = { bins, divergence };
  }
  const limit = best.bins * width;
  return { min: Math.max(min, -limit), max: Math.min(max, limit) };
}

/** The histogram of sizes without signs, from zero on. */
function magnitudesOf(state: HistogramState): { counts: Float64Array; width: number } {
  const largest = Math.max(Math.abs(state.min), Math.abs(state.max));
  const exponent = Math.max(state.exponent, Math.ceil(Math.log2(largest / MAGNITUDE_BINS || 1)));
  const width = 2 ** exponent;
  const counts = new Float64Array(Math.floor(largest / width) + 1);
  state.counts.forEach((count, index) => {
    const bin = Math.min(Math.floor(Math.abs(centreOf(state, index)) / width), counts.length - 1);
    counts[bin]! += count;
  });
  // Zeros of a Relu or of padding need no levels, and so many of them would drown the rest.
  counts[0] = counts[1] ?? counts[0]!;
  return { counts, width };
}

/** An empty level counts as so much of a number, or a single outlier would forbid every range without it; onnxruntime's tool does so too. */
const SMOOTHING = 1e-4;

/** Divergence between the numbers clipped into `bins` bins, and the same after rounding to `levels` levels. */
function divergenceOf(counts: Float64Array, below: Float64Array, bins: number, levels: number): number {
  const total = below[counts.length]!;
  const within = below[bins]!;
  if (within === 0) return Infinity;
  let divergence = 0;
  for (let level = 0; level < levels; level++) {
    const [from, to] = [Math.floor((level * bins) / levels), Math.floor(((level + 1) * bins) / levels)];
    const clipped = (bin: number): number => counts[bin]! + (bin === bins - 1 ? total - within : 0);
    let filled = 0;
    // Where the reference has mass the level must have some too.
    for (let bin = from; bin < to; bin++) if (clipped(bin) > 0) filled += 1;
    const q = Math.max((below[to]! - below[from]!) / filled, SMOOTHING) / within;
    for (let bin = from; bin < to; bin++) {
      const p = clipped(bin) / total;
      if (p > 0) divergence += p * Math.log(p / q);
    }
  }
  return divergence;
}

const edgeOf = (state: HistogramState, index: number): number => (state.first + index) * 2 ** state.exponent;
const centreOf = (state: HistogramState, index: number): number => edgeOf(state, index + 0.5);

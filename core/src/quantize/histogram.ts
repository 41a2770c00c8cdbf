import { CodecError, invariant } from '../errors.ts';
import type { Range } from './affine.ts';
import { QuantizeError } from './errors.ts';

/** More bins than this are merged in pairs. */
const BINS_MAX = 2048;
/** Below this a difference is noise: bins are never narrower than 2 to this power. */
const EXPONENT_MIN = -60;
/** Of all float32 numbers in one histogram. */
const EXPONENT_MAX = 128;

/** How often numbers fell into bins of one width. Bin `i` counts numbers in `[(first + i) * width, (first + i + 1) * width)`. */
export interface HistogramState {
  /** The width of a bin is 2 to this power. */
  exponent: number;
  /** Number of the first bin: a multiple of the width. */
  first: number;
  counts: Float64Array;
  min: number;
  max: number;
}

/**
 * Counts numbers in bins whose width is a power of two, so that histograms add up exactly: the sum of two is the
 * histogram of all their numbers, whatever the order and however the numbers were spread.
 */
export class Histogram {
  #state: HistogramState | undefined;

  get isEmpty(): boolean {
    return this.#state === undefined;
  }

  /** What somebody else counted. Throws CodecError where it cannot be what it says. */
  static from(state: HistogramState): Histogram {
    const fault = faultOf(state);
    if (fault !== undefined) throw new CodecError(`that is no histogram: ${fault}`);
    const histogram = new Histogram();
    histogram.#state = { ...state, counts: state.counts.slice() };
    return histogram;
  }

  /** The same with wider bins, so that there are no more than this: two at least, for zero parts them. Like any other it adds up exactly. */
  coarse(binsMax: number): Histogram {
    invariant(binsMax >= 2, 'numbers of both signs take two bins');
    const { exponent, ...state } = this.state();
    let wide = { ...state, exponent, counts: state.counts };
    while (wide.counts.length > binsMax) {
      const first = Math.floor(wide.first / 2);
      const counts = new Float64Array(Math.floor((wide.first + wide.counts.length - 1) / 2) - first + 1);
      wide.counts.forEach((count, index) => (counts[Math.floor((wide.first + index) / 2) - first]! += count));
      wide = { ...wide, exponent: wide.exponent + 1, first, counts };
    }
    const histogram = new Histogram();
    histogram.#state = { ...wide, counts: wide.counts.slice() };
    return histogram;
  }

  /** Throws for numbers that are not finite. */
  add(values: Float32Array): void {
    if (values.length === 0) return;
    const { min, max } = extremesOf(values);
    const { exponent, first, counts } = this.#widen(min, max);
    const perBin = 2 ** -exponent;
    for (const value of values) counts[Math.floor(value * perBin) - first]! += 1;
  }

  merge(other: Histogram): void {
    if (other.isEmpty) return;
    const theirs = other.state();
    const { exponent, first, counts } = this.#widen(theirs.min, theirs.max, theirs.exponent);
    const step = 2 ** (exponent - theirs.exponent);
    theirs.counts.forEach((count, index) => {
      if (count > 0) counts[Math.floor((theirs.first + index) / step) - first]! += count;
    });
  }

  /** Throws when nothing was added. */
  state(): HistogramState {
    if (this.#state === undefined) throw new QuantizeError('no numbers were seen; give more calibration data');
    return this.#state;
  }

  /** Makes room for numbers between the two, with bins at least as wide as 2 to `exponentMin`. */
  #widen(min: number, max: number, exponentMin: number = EXPONENT_MIN): HistogramState {
    const before = this.#state;
    const [low, high] = [Math.min(min, before?.min ?? min), Math.max(max, before?.max ?? max)];
    let exponent = Math.max(exponentMin, before?.exponent ?? EXPONENT_MIN, exponentOf(low, high));
    while (binOf(high, exponent) - binOf(low, exponent) >= BINS_MAX) exponent += 1;
    const first = binOf(low, exponent);
    const length = binOf(high, exponent) - first + 1;
    if (
      before !== undefined &&
      before.exponent === exponent &&
      before.first === first &&
      before.counts.length === length
    ) {
      before.min = low;
      before.max = high;
      return before;
    }
    const counts = new Float64Array(length);
    const step = before === undefined ? 1 : 2 ** (exponent - before.exponent);
    before?.counts.forEach((count, index) => {
      if (count > 0) counts[Math.floor((before.first + index) / step) - first]! += count;
    });
    this.#state = { exponent, first, counts, min: low, max: high };
    return this.#state;
  }
}

/** Histograms of at most so many bins each. */
export function coarseHistograms(
  states: ReadonlyMap<string, HistogramState>,
  binsMax: number,
): Map<string, HistogramState> {
  return new Map(Array.from(states, ([name, state]) => [name, Histogram.from(state).coarse(binsMax).state()]));
}

/** What cannot be true of a histogram of float32 numbers. */
function faultOf({ exponent, first, counts, min, max }: HistogramState): string | undefined {
  if (!Number.isInteger(exponent) || exponent < EXPONENT_MIN || exponent > EXPONENT_MAX)
    return `bins are 2^${exponent} wide`;
  if (counts.length < 1 || counts.length > BINS_MAX) return `it has ${counts.length} bins`;
  if (![min, max].every((value) => Number.isFinite(Math.fround(value))) || min > max)
    return `it goes from ${min} to ${max}`;
  if (!counts.every((count) => Number.isSafeInteger(count) && count >= 0)) return 'a count is no whole number';
  if (!Number.isSafeInteger(counts.reduce((sum, count) => sum + count, 0)))
    return 'it counts more than a number can say';
  const isThere = (value: number): boolean => (counts[binOf(value, exponent) - first] ?? 0) > 0;
  return isThere(min) && isThere(max) ? undefined : 'its least or its largest number is in no bin';
}

const binOf = (value: number, exponent: number): number => Math.floor(value * 2 ** -exponent);

/** Narrowest width at which the bins may suffice, and at which the numbers of bins are exact doubles. */
function exponentOf(low: number, high: number): number {
  const magnitude = Math.max(Math.abs(low), Math.abs(high));
  if (magnitude === 0) return EXPONENT_MIN;
  const span = high - low;
  const fromSpan = span === 0 ? EXPONENT_MIN : Math.floor(Math.log2(span)) - 11;
  return Math.max(fromSpan, Math.floor(Math.log2(magnitude)) - 50);
}

function extremesOf(values: Float32Array): Range {
  let [min, max, poison] = [values[0]!, values[0]!, 0];
  for (const value of values) {
    poison += value - value;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  if (poison !== 0) {
    throw new QuantizeError('a value became infinity or NaN on the calibration data; mend the model or the data');
  }
  return { min, max };
}

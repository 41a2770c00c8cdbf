import { invariant } from '../errors.ts';

/**
 * Bins for numbers of any size: each octave between two powers of two is cut into 2^precisionBits bins of one width, for either sign. A bin
 * is no wider than 2^-precisionBits of what is in it, so a value that is only known by its bin is known that well; what is below
 * 2^low counts as zero, and what is not below 2^high goes into a bin without an end. Counts of bins add up exactly. A histogram on a
 * logarithmic scale, as in HdrHistogram; Masson, Rim, Lee 2019, "DDSketch", has the same guarantee with bins of one ratio.
 */
export interface MagnitudeRange {
  /** Values below 2^low, of either sign, are zero. */
  low: number;
  /** Values from 2^high on are not told apart. */
  high: number;
  /** A bin is as wide as 2^-precisionBits of its octave. */
  precisionBits: number;
}

/** What a bin holds: values from `from` to below `to`, the other way round for negative ones. */
export interface Bin {
  from: number;
  to: number;
  count: number;
}

/** Bins in the order of the values in them: beyond -2^high, negative, zero, positive, beyond 2^high. */
export class MagnitudeBins {
  readonly range: MagnitudeRange;
  readonly length: number;
  /** Of one sign, without the one beyond the range. */
  readonly #perSign: number;
  readonly #bits = new DataView(new ArrayBuffer(8));

  constructor(range: MagnitudeRange) {
    this.range = range;
    this.#perSign = (range.high - range.low) * 2 ** range.precisionBits;
    this.length = 2 * this.#perSign + 3;
  }

  /** Where a finite number belongs. */
  binOf(value: number): number {
    const { low, high, precisionBits } = this.range;
    const zero = this.#perSign + 1;
    const magnitude = Math.abs(value);
    if (magnitude < 2 ** low) return zero;
    const side = value < 0 ? -1 : 1;
    if (magnitude >= 2 ** high) return zero + side * (this.#perSign + 1);
    // The exponent and the first bits of the fraction of a float64 are octave and bin: nothing is rounded.
    this.#bits.setFloat64(0, magnitude);
    const word = this.#bits.getUint32(0);
    const octave = (word >>> 20) - 1023;
    const within = (word >>> (20 - precisionBits)) & (2 ** precisionBits - 1);
    return zero + side * (1 + (octave - low) * 2 ** precisionBits + within);
  }

  /** The bounds of a bin, the smaller first. */
  boundsOf(bin: number): { from: number; to: number } {
    const { low, high, precisionBits } = this.range;
    const place = bin - this.#perSign - 1;
    if (place === 0) return { from: 0, to: 0 };
    const step = Math.abs(place) - 1;
    const [near, far] =
      step === this.#perSign
        ? [2 ** high, Infinity]
        : [edge(low, precisionBits, step), edge(low, precisionBits, step + 1)];
    return place < 0 ? { from: -far, to: -near } : { from: near, to: far };
  }

  /** Bins with something in them. */
  filled(counts: readonly number[]): Bin[] {
    invariant(counts.length === this.length, 'counts are one a bin');
    return counts.flatMap((count, bin) => (count === 0 ? [] : [{ ...this.boundsOf(bin), count }]));
  }
}

const edge = (low: number, precisionBits: number, step: number): number =>
  2 ** (low + Math.floor(step / 2 ** precisionBits)) * (1 + (step % 2 ** precisionBits) / 2 ** precisionBits);

/** The bounds between which all values are; undefined where there are none. */
export const extentOf = (bins: readonly Bin[]): { min: number; max: number } | undefined => {
  const [first, last] = [bins[0], bins.at(-1)];
  return first === undefined || last === undefined ? undefined : { min: first.from, max: last.to };
};

/**
 * About the value that a share of all values does not exceed (nearest rank): the middle of the bin that it is in, so that it is wrong by no
 * more than half of the bin's width. Beyond the range it is the bound. Undefined where there are no values.
 */
export function quantileOf(bins: readonly Bin[], share: number): number | undefined {
  const total = bins.reduce((sum, { count }) => sum + count, 0);
  const rank = Math.max(1, Math.ceil(share * total));
  let below = 0;
  for (const { from, to, count } of bins) {
    below += count;
    if (below < rank) continue;
    if (!Number.isFinite(from)) return to;
    if (!Number.isFinite(to)) return from;
    return (from + to) / 2;
  }
  return undefined;
}

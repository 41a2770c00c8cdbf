import { ConfigError } from '../errors.ts';
import { extentOf, MagnitudeBins, quantileOf, type Bin } from './magnitude-bins.ts';
import { ReportLayout, REPORTED_EXAMPLES_MAX, type Slot } from './report.ts';
import type { StatisticsPlan } from './statistics-plan.ts';

/** Values of one report: 16 MiB of float32. */
const LENGTH_MAX = 2 ** 22;
/** Values are rounded to this many bits below the smallest that is told from zero. */
const FRACTION_BITS = 4;
/** Bits of the number of examples of one agent. */
const EXAMPLE_BITS = Math.log2(REPORTED_EXAMPLES_MAX);

/** What is known of one feature over all agents. */
export interface FeatureStatistics {
  count: number;
  /** Values that are no number, or infinite. */
  missing: number;
  mean: number;
  /** Mean squared distance from the mean. */
  variance: number;
  /** The lower bound of the lowest bin that has something in it, and the upper one of the highest: all values are between them. */
  min: number;
  max: number;
  /** Bins that have something in them, ascending. */
  bins: readonly Bin[];
}

export interface StatisticsResult {
  examples: number;
  features: readonly FeatureStatistics[];
  /** Examples by label, and last those of all other labels. */
  labels: readonly number[];
}

/** Quantiles that are shown. */
export const shownQuantiles: readonly number[] = [0.01, 0.25, 0.5, 0.75, 0.99];

/** About the values that shares of a feature's values do not exceed, see quantileOf. */
export const quantilesOf = ({ bins }: FeatureStatistics): number[] =>
  shownQuantiles.map((share) => quantileOf(bins, share) ?? Number.NaN);

/** What agents write into a report, and how the sum of all is read. Throws ConfigError where a report would be too long. */
export class StatisticsReports {
  readonly layout: ReportLayout;
  readonly #plan: StatisticsPlan;
  readonly #inputs: number;
  readonly #bins: MagnitudeBins;

  /** `inputs`: values of one example. */
  constructor(plan: StatisticsPlan, inputs: number) {
    this.#plan = plan;
    this.#inputs = inputs;
    this.#bins = new MagnitudeBins(plan);
    this.layout = new ReportLayout(this.#slots());
    if (this.layout.length > LENGTH_MAX) {
      throw new ConfigError(
        `a report on ${this.#features} features has ${this.layout.length} values, and ${LENGTH_MAX} is the most: set features to all, or lower precisionBits or the range from low to high`,
        'statistics',
      );
    }
  }

  get #features(): number {
    return this.#plan.features === 'each' ? this.#inputs : 1;
  }

  /** Bits below the point of the whole numbers that stand for values. */
  get #fractionBits(): number {
    return FRACTION_BITS - this.#plan.low;
  }

  *#slots(): Generator<Slot> {
    const valueBits = this.#plan.high + this.#fractionBits + 1;
    // Of all inputs together there are more values than examples.
    const bits = EXAMPLE_BITS + Math.ceil(Math.log2(this.#plan.features === 'each' ? 1 : this.#inputs));
    yield { name: 'examples', counts: 1, bits: EXAMPLE_BITS };
    yield { name: 'labels', counts: this.#plan.classes + 1, bits: EXAMPLE_BITS };
    for (let feature = 0; feature < this.#features; feature++) {
      yield { name: `missing ${feature}`, bits };
      yield { name: `sum ${feature}`, bits: valueBits + bits };
      yield { name: `squares ${feature}`, bits: 2 * valueBits + bits };
      yield { name: `bins ${feature}`, counts: this.#bins.length, bits };
    }
  }

  /** What one agent has; of more than REPORTED_EXAMPLES_MAX examples the first ones. */
  report(inputs: Float32Array, labels: ArrayLike<number>): Float32Array {
    const { classes, features, high } = this.#plan;
    const examples = Math.min(labels.length, REPORTED_EXAMPLES_MAX);
    const report = this.layout.empty();
    const counted = new Float64Array(classes + 1);
    for (let i = 0; i < examples; i++) {
      const label = labels[i] ?? -1;
      counted[label >= 0 && label < classes ? label : classes]! += 1;
    }
    this.layout.putCounts(report, 'examples', [examples]);
    this.layout.putCounts(report, 'labels', counted);
    const scale = 2 ** this.#fractionBits;
    const bound = 2 ** high;
    for (let feature = 0; feature < this.#features; feature++) {
      const bins = new Float64Array(this.#bins.length);
      const [sum, squares] = [new WideSum(), new WideSum()];
      let missing = 0;
      const [start, end, step] =
        features === 'each' ? [feature, examples * this.#inputs, this.#inputs] : [0, examples * this.#inputs, 1];
      for (let i = start; i < end; i += step) {
        const value = inputs[i] ?? 0;
        if (!Number.isFinite(value)) {
          missing++;
          continue;
        }
        bins[this.#bins.binOf(value)]! += 1;
        const whole = Math.round(Math.max(-bound, Math.min(bound, value)) * scale);
        sum.add(whole);
        squares.addProduct(whole, whole);
      }
      this.layout.putNumber(report, `missing ${feature}`, BigInt(missing));
      this.layout.putNumber(report, `sum ${feature}`, sum.total());
      this.layout.putNumber(report, `squares ${feature}`, squares.total());
      this.layout.putCounts(report, `bins ${feature}`, bins);
    }
    return report;
  }

  /** What the sum of reports says. */
  result(sums: BigInt64Array): StatisticsResult {
    const [examples = 0] = this.layout.counts(sums, 'examples');
    return {
      examples,
      labels: this.layout.counts(sums, 'labels'),
      features: Array.from({ length: this.#features }, (_, feature) => this.#feature(sums, feature)),
    };
  }

  #feature(sums: BigInt64Array, feature: number): FeatureStatistics {
    const bins = this.#bins.filled(this.layout.counts(sums, `bins ${feature}`));
    const count = bins.reduce((total, bin) => total + bin.count, 0);
    const [sum, squares] = [this.layout.number(sums, `sum ${feature}`), this.layout.number(sums, `squares ${feature}`)];
    const extent = extentOf(bins);
    const n = BigInt(count);
    const bits = this.#fractionBits;
    return {
      count,
      missing: Number(this.layout.number(sums, `missing ${feature}`)),
      mean: count === 0 ? Number.NaN : quotient(sum, n, bits),
      // n·Σx² − (Σx)² in whole numbers: nothing cancels that was rounded before.
      variance: count === 0 ? Number.NaN : quotient(n * squares - sum * sum, n * n, 2 * bits),
      min: extent?.min ?? Number.NaN,
      max: extent?.max ?? Number.NaN,
      bins,
    };
  }
}

/** A sum of whole numbers beyond what float64 holds. */
class WideSum {
  #wide = 0n;
  #small = 0;

  add(whole: number): void {
    const next = this.#small + whole;
    if (Number.isSafeInteger(whole) && Number.isSafeInteger(next)) this.#small = next;
    else this.#carry(BigInt(whole));
  }

  addProduct(a: number, b: number): void {
    const product = a * b;
    if (Number.isSafeInteger(product)) this.add(product);
    else this.#carry(BigInt(a) * BigInt(b));
  }

  total(): bigint {
    return this.#wide + BigInt(this.#small);
  }

  #carry(whole: bigint): void {
    this.#wide += whole + BigInt(this.#small);
    this.#small = 0;
  }
}

/** above / below · 2^-bits as the nearest float64 or its neighbour. */
function quotient(above: bigint, below: bigint, bits: number): number {
  const sign = above < 0n ? -1 : 1;
  const magnitude = above < 0n ? -above : above;
  // Enough bits of the quotient for a float64, whatever the sizes.
  const shift = Math.max(0, 64 - (magnitude.toString(2).length - below.toString(2).length));
  return sign * Number((magnitude << BigInt(shift)) / below) * 2 ** -shift * 2 ** -bits;
}

import { MetricSums, type EvaluationGraph } from '../training/evaluation-graph.ts';
import type { MetricName } from '../training/metrics.ts';
import { sizeOf } from '../tensor/shape.ts';
import { ReportLayout, REPORTED_EXAMPLES_MAX, type Slot } from './report.ts';

/** Sums that are no counts are rounded to this many bits behind the point. */
const FRACTION_BITS = 20;
/** Bits of one example's part of a sum, before the point. */
const VALUE_BITS = 30;
const EXAMPLE_BITS = Math.log2(REPORTED_EXAMPLES_MAX);

type Total = EvaluationGraph['totals'][number];

/** What one agent found of some weights: the sums of all batches, by the names of the graph's outputs. */
export type Totals = Readonly<Record<string, ArrayLike<number>>>;

/** How good some weights are over all agents' examples. */
export interface Measured {
  examples: number;
  /** Those that are numbers: a quotient without anything counted is none. */
  metrics: Partial<Record<MetricName, number>>;
}

/** Evaluations of one or several weights on the same examples: what agents write into a report, and how the sum of all is read. */
export class EvaluationReports {
  readonly layout: ReportLayout;
  readonly #totals: readonly Total[];
  readonly #subjects: number;

  /** `subjects`: weights that are measured, one after the other. */
  constructor(totals: readonly Total[], subjects: number) {
    this.#totals = totals;
    this.#subjects = subjects;
    this.layout = new ReportLayout(this.#slots());
  }

  *#slots(): Generator<Slot> {
    yield { name: 'examples', counts: 1, bits: EXAMPLE_BITS };
    for (let subject = 0; subject < this.#subjects; subject++) {
      for (const { output, shape } of this.#totals) {
        for (let i = 0; i < sizeOf(shape); i++)
          yield { name: `${subject} ${output} ${i}`, bits: FRACTION_BITS + VALUE_BITS + EXAMPLE_BITS };
      }
    }
  }

  /**
   * What one agent found, of all subjects in order. Throws RangeError where a sum of the first is no number, or beyond what a report holds: that
   * is a fault of the examples. With later weights, which nobody has measured yet, such a sum counts as bad as a report can say: all metrics that
   * are not made of counts are worse the larger they are.
   */
  report(examples: number, found: readonly Totals[]): Float32Array {
    const report = this.layout.empty();
    const counted = Math.min(examples, REPORTED_EXAMPLES_MAX);
    this.layout.putCounts(report, 'examples', [counted]);
    const worst = counted * (2 ** (FRACTION_BITS + VALUE_BITS) - 1);
    for (const [subject, totals] of found.entries()) {
      for (const { output, metric, shape } of this.#totals) {
        for (let i = 0; i < sizeOf(shape); i++) {
          const value = Math.round((totals[output]?.[i] ?? Number.NaN) * 2 ** FRACTION_BITS);
          const isSound = Math.abs(value) <= worst;
          if (!isSound && subject === 0)
            throw new RangeError(
              `${metric} of the version is no number that can be reported: look for bad values in the data`,
            );
          this.layout.putNumber(report, `${subject} ${output} ${i}`, BigInt(isSound ? value : worst));
        }
      }
    }
    return report;
  }

  /** What the sum of reports says of each subject. */
  result(sums: BigInt64Array): Measured[] {
    const [examples = 0] = this.layout.counts(sums, 'examples');
    return Array.from({ length: this.#subjects }, (_, subject) => {
      const all = new MetricSums({ totals: [...this.#totals] });
      all.add(
        Object.fromEntries(this.#totals.map(({ output, shape }) => [output, this.#read(sums, subject, output, shape)])),
      );
      const values = Object.entries(all.values()).filter(([, value]) => Number.isFinite(value));
      return { examples, metrics: Object.fromEntries(values) };
    });
  }

  #read(sums: BigInt64Array, subject: number, output: string, shape: readonly number[]): number[] {
    return Array.from(
      { length: sizeOf(shape) },
      (_, i) => Number(this.layout.number(sums, `${subject} ${output} ${i}`)) / 2 ** FRACTION_BITS,
    );
  }
}

import {
  contractOf,
  EvaluationReports,
  readModel,
  StatisticsReports,
  type EvaluationPlan,
  type StatisticsPlan,
} from '@commonweight/core';
import { DataError, type Dataset } from '../data/dataset.ts';
import type { RunsOn } from './engines.ts';
import { HeldOut } from './held-out.ts';

/** How weights are to be measured: what of, and on which share of the examples. */
export interface EvaluationAsked extends EvaluationPlan {
  holdOut: number;
}

/** A report that is to be made, as the process that does it gets it. */
export type ReportJob =
  /** How good some weights are, each on the same examples: those that were set aside, or all. */
  | {
      work: 'evaluate';
      graph: Uint8Array;
      weights: readonly Float32Array[];
      plan: EvaluationAsked;
      onAll: boolean;
    }
  /** What the examples are like, of a model with so many inputs. */
  | { work: 'statistics'; plan: StatisticsPlan; inputs: number };

export interface MadeReport {
  /** Whole numbers in the order of the plan's layout. */
  report: Float32Array;
  examples: number;
  ms: number;
}

/** Makes reports on one set. */
export class Reporter {
  readonly #data: Dataset;
  readonly #heldOut: HeldOut;

  constructor(data: Dataset, on: RunsOn) {
    this.#data = data;
    this.#heldOut = new HeldOut(data, on);
  }

  /** Throws DataError where the examples do not fit, and when the signal aborts. */
  async report(job: ReportJob, signal?: AbortSignal): Promise<MadeReport> {
    const startMs = performance.now();
    const made = job.work === 'evaluate' ? await this.#evaluate(job, signal) : this.#count(job);
    return { ...made, ms: performance.now() - startMs };
  }

  async #evaluate(
    { graph, weights, plan, onAll }: Extract<ReportJob, { work: 'evaluate' }>,
    signal?: AbortSignal,
  ): Promise<Omit<MadeReport, 'ms'>> {
    const { examples } = this.#data;
    const indices = onAll ? Array.from({ length: examples }, (_, i) => i) : this.#heldOut.split(plan).held;
    const width = contractOf(readModel(graph)).outputs[0]?.dims.at(-1);
    const classes = width !== undefined && width > 0 ? width : undefined;
    const found = [];
    for (const one of weights) {
      signal?.throwIfAborted();
      found.push(await this.#heldOut.totals({ graph, weights: one, plan }, indices, classes));
    }
    const [first] = found;
    if (first === undefined) throw new TypeError('there is nothing to measure');
    const reports = new EvaluationReports(first.graph.totals, weights.length);
    const report = reports.report(
      indices.length,
      found.map(({ sums }) => sums),
    );
    return { report, examples: indices.length };
  }

  #count({ plan, inputs }: Extract<ReportJob, { work: 'statistics' }>): Omit<MadeReport, 'ms'> {
    const { examples, inputs: values, labels } = this.#data;
    const given = values.length / examples;
    if (given !== inputs)
      throw new DataError(`an example has ${given} values and the model takes ${inputs}: use data that fits the model`);
    return { report: new StatisticsReports(plan, inputs).report(values, labels), examples };
  }
}

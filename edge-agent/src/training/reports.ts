import {
  EvaluationReports,
  StatisticsReports,
  type EvaluationPlan,
  type StatisticsPlan,
  type TensorSpec,
} from '@commonweight/core';
import { DataError, labelsOf, type Dataset } from '../data/dataset.ts';
import { exampleInputs } from '../data/example-inputs.ts';
import type { HeldOut } from './held-out.ts';
import type { Watched } from './train.ts';

/** How weights are to be measured: what of, and on which share of the examples. */
export interface EvaluationAsked extends EvaluationPlan {
  holdOut: number;
}

/** How good some weights are, each on the same examples: those that were set aside, or all. */
export interface EvaluationJob {
  work: 'evaluate';
  graph: Uint8Array;
  weights: readonly Float32Array[];
  plan: EvaluationAsked;
  onAll: boolean;
}

/** What the examples are like: the numbers of a model's first input. */
export interface StatisticsJob {
  work: 'statistics';
  plan: StatisticsPlan;
  inputs: readonly TensorSpec[];
}

/** A report that is to be made, as the process that does it gets it. */
export type ReportJob = EvaluationJob | StatisticsJob;

export interface MadeReport {
  /** Whole numbers in the order of the plan's layout. */
  report: Float32Array;
  examples: number;
  ms: number;
}

/** Measures weights on a set. Throws DataError where the examples do not fit. */
export async function evaluationOn(
  data: Dataset,
  heldOut: HeldOut,
  { graph, weights, plan, onAll }: EvaluationJob,
  watched: Watched,
): Promise<MadeReport> {
  const startMs = performance.now();
  const indices = onAll ? Array.from({ length: data.examples }, (_, i) => i) : heldOut.split(plan).held;
  const found = [];
  for (const one of weights) found.push(await heldOut.totals({ graph, weights: one, plan }, indices, watched));
  const [first] = found;
  if (first === undefined) throw new TypeError('there is nothing to measure');
  const reports = new EvaluationReports(first.graph.totals, weights.length);
  const report = reports.report(
    indices.length,
    found.map(({ sums }) => sums),
  );
  return { report, examples: indices.length, ms: performance.now() - startMs };
}

/** Counts a set. Throws DataError where it does not fit. */
export function statisticsOf(data: Dataset, { plan, inputs }: StatisticsJob): MadeReport {
  const startMs = performance.now();
  const { examples } = data;
  const [first] = inputs;
  if (first === undefined) throw new DataError('the model takes nothing of an example: there is nothing to count');
  const all = Array.from({ length: examples }, (_, index) => index);
  const { data: given } = exampleInputs(data, inputs, all)[first.name]!;
  if (!ArrayBuffer.isView(given)) throw new DataError(`'${first.name}' holds texts, which have no statistics`);
  const values = given instanceof Float32Array ? given : Float32Array.from(given as ArrayLike<number>, Number);
  // What is to be learnt need not be a class.
  const labels = labelsOf(data) ?? new Int32Array(examples).fill(-1);
  const report = new StatisticsReports(plan, values.length / examples).report(values, labels);
  return { report, examples, ms: performance.now() - startMs };
}

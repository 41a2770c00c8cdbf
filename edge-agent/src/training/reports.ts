import {
  contractOf,
  EvaluationReports,
  readModel,
  StatisticsReports,
  type EvaluationPlan,
  type StatisticsPlan,
} from '@commonweight/core';
import { DataError, type Dataset } from '../data/dataset.ts';
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

/** What the examples are like, of a model with so many inputs. */
export interface StatisticsJob {
  work: 'statistics';
  plan: StatisticsPlan;
  inputs: number;
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
  const width = contractOf(readModel(graph)).outputs[0]?.dims.at(-1);
  const classes = width !== undefined && width > 0 ? width : undefined;
  const found = [];
  for (const one of weights)
    found.push(await heldOut.totals({ graph, weights: one, plan }, indices, { classes, watched }));
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
  const { examples, inputs: values, labels } = data;
  const given = values.length / examples;
  if (given !== inputs)
    throw new DataError(`an example has ${given} values and the model takes ${inputs}: use data that fits the model`);
  const report = new StatisticsReports(plan, inputs).report(values, labels);
  return { report, examples, ms: performance.now() - startMs };
}

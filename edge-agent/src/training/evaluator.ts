import {
  buildEvaluationGraph,
  contractOf,
  layoutOf,
  MetricSums,
  readModel,
  stepOfEvaluation,
  type EvaluationGraph,
  type EvaluationPlan,
  type WeightLayout,
} from '@commonweight/core';
import { equalBytes } from '@commonweight/proto';
import { sizeOf, type Dataset } from '../data/dataset.ts';
import { Batches } from './batches.ts';
import { byEngine, type Engine, type Program } from './engine.ts';
import { Front } from './front.ts';
import type { Watched } from './train.ts';

/** Examples that are measured at once. */
const BATCH = 64;

interface Loaded {
  bytes: Uint8Array;
  key: string;
  graph: EvaluationGraph;
  layout: WeightLayout;
  classes: number | undefined;
  front: Front | undefined;
  program: Program;
}

/** Weights, and what is to be known of them. */
interface Weighed {
  graph: Uint8Array;
  weights: Float32Array;
  plan: EvaluationPlan;
}

/** Measures weights on examples; the graph that it measures with stays loaded. */
export class Evaluator {
  readonly #engine: Engine;
  #loaded: Loaded | undefined;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** What a plan measures of weights, over some examples of a set. Throws DataError where they do not fit the model. */
  async measure(
    data: Dataset,
    indices: readonly number[],
    weighed: Weighed,
    watched: Watched = {},
  ): Promise<MetricSums> {
    const { graph, sums } = await this.totals(data, indices, weighed, watched);
    const all = new MetricSums(graph);
    all.add(sums);
    return all;
  }

  /** The sums that metrics are made of, by the names of the graph's outputs. Throws DataError. */
  async totals(
    data: Dataset,
    indices: readonly number[],
    { graph: bytes, weights, plan }: Weighed,
    watched: Watched = {},
  ): Promise<{ graph: EvaluationGraph; sums: Record<string, Float64Array> }> {
    const { graph, layout, classes, front, program } = await this.#load(
      bytes,
      plan,
      Math.max(1, Math.min(BATCH, indices.length)),
    );
    const { ignoreIndex } = plan.lossOptions ?? {};
    const batches = new Batches(data, graph, {
      classes: plan.loss === 'cross-entropy' ? classes : undefined,
      ignoreIndex,
      front,
    });
    const places = new Map(layout.parameters.map((parameter) => [parameter.name, parameter]));
    const values: Record<string, Float32Array> = {};
    for (const { name, input } of graph.parameters) {
      const { offset = 0, length = 0 } = places.get(name) ?? {};
      values[input] = weights.subarray(offset, offset + length);
    }
    await byEngine(() => program.write(values));
    const sums: Record<string, Float64Array> = {};
    for (const { output, shape } of graph.totals) sums[output] = new Float64Array(sizeOf(shape));
    for (let start = 0; start < indices.length; start += graph.batchSize) {
      const batch = await batches.feedsOf(indices.slice(start, start + graph.batchSize));
      const outputs = await byEngine(() => program.measure(batch));
      for (const [output, values] of Object.entries(sums)) {
        const found = outputs[output]!;
        sums[output] = values.map((sum, i) => sum + found[i]!);
      }
      await watched.onStep?.();
    }
    return { graph, sums };
  }

  async release(): Promise<void> {
    const loaded = this.#loaded;
    this.#loaded = undefined;
    await loaded?.front?.release();
    await loaded?.program.release();
  }

  async #load(bytes: Uint8Array, plan: EvaluationPlan, batchSize: number): Promise<Loaded> {
    const key = `${batchSize} ${JSON.stringify(plan)}`;
    if (this.#loaded?.key === key && equalBytes(this.#loaded.bytes, bytes)) return this.#loaded;
    const model = readModel(bytes);
    const graph = buildEvaluationGraph(model, plan, batchSize);
    const program = await byEngine(() => this.#engine.compile(stepOfEvaluation(graph)));
    await this.release();
    const size = contractOf(model).outputs[0]?.dims.at(-1) ?? -1;
    const classes = size > 0 ? size : undefined;
    const front = await Front.open(model, this.#engine);
    this.#loaded = { bytes, key, graph, layout: layoutOf(model), classes, front, program };
    return this.#loaded;
  }
}

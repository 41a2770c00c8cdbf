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
import type { Dataset } from '../data/dataset.ts';
import { Batches } from './batches.ts';
import { byEngine, type Engine, type Program } from './engine.ts';
import { Front } from './front.ts';

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

/** Measures weights on examples; the graph that it measures with stays loaded. */
export class Evaluator {
  readonly #engine: Engine;
  #loaded: Loaded | undefined;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Sums of what a plan measures of weights, over some examples of a set. Throws DataError where they do not fit the model. */
  async measure(
    data: Dataset,
    indices: readonly number[],
    { graph: bytes, weights, plan }: { graph: Uint8Array; weights: Float32Array; plan: EvaluationPlan },
  ): Promise<MetricSums> {
    const { graph, layout, classes, front, program } = await this.#load(bytes, plan, Math.min(BATCH, indices.length));
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
    const sums = new MetricSums(graph);
    for (let start = 0; start < indices.length; start += graph.batchSize) {
      const batch = await batches.feedsOf(indices.slice(start, start + graph.batchSize));
      sums.add(await byEngine(() => program.measure(batch)));
    }
    return sums;
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

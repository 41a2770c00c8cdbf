import { createHash } from 'node:crypto';
import {
  buildEvaluationGraph,
  contractOf,
  layoutOf,
  MetricSums,
  readModel,
  type EvaluationGraph,
  type EvaluationPlan,
  type WeightLayout,
} from '@commonweight/core';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { Dataset } from '../data/dataset.ts';
import { Batches, type Feeds } from './batches.ts';
import { sessionOptions, type RunsOn } from './engines.ts';
import { Front } from './front.ts';

/** Examples that are measured at once. */
const BATCH = 64;

interface Loaded {
  key: string;
  graph: EvaluationGraph;
  layout: WeightLayout;
  classes: number | undefined;
  front: Front | undefined;
  session: InferenceSession;
}

/** Measures weights on examples; the graph that it measures with stays loaded. */
export class Evaluator {
  readonly #on: RunsOn;
  #loaded: Loaded | undefined;

  constructor(on: RunsOn) {
    this.#on = on;
  }

  /** Sums of what a plan measures of weights, over some examples of a set. Throws DataError where they do not fit the model. */
  async measure(
    data: Dataset,
    indices: readonly number[],
    { graph: bytes, weights, plan }: { graph: Uint8Array; weights: Float32Array; plan: EvaluationPlan },
  ): Promise<MetricSums> {
    const { graph, layout, classes, front, session } = await this.#load(bytes, plan, Math.min(BATCH, indices.length));
    const { ignoreIndex } = plan.lossOptions ?? {};
    const batches = new Batches(data, graph, {
      classes: plan.loss === 'cross-entropy' ? classes : undefined,
      ignoreIndex,
      front,
    });
    const places = new Map(layout.parameters.map((parameter) => [parameter.name, parameter]));
    const feeds: Feeds = {};
    for (const { name, input, shape } of graph.parameters) {
      const { offset = 0, length = 0 } = places.get(name) ?? {};
      feeds[input] = new Tensor('float32', weights.slice(offset, offset + length), shape);
    }
    const sums = new MetricSums(graph);
    for (let start = 0; start < indices.length; start += graph.batchSize) {
      const batch = await batches.feedsOf(indices.slice(start, start + graph.batchSize));
      const outputs = await session.run({ ...feeds, ...batch });
      sums.add(Object.fromEntries(graph.totals.map(({ output }) => [output, outputs[output]!.data as Float32Array])));
    }
    return sums;
  }

  async release(): Promise<void> {
    const loaded = this.#loaded;
    this.#loaded = undefined;
    await loaded?.front?.release();
    await loaded?.session.release();
  }

  async #load(bytes: Uint8Array, plan: EvaluationPlan, batchSize: number): Promise<Loaded> {
    const key = `${createHash('sha256').update(bytes).digest('hex')} ${batchSize} ${JSON.stringify(plan)}`;
    if (this.#loaded?.key === key) return this.#loaded;
    const model = readModel(bytes);
    const graph = buildEvaluationGraph(model, plan, batchSize);
    const session = await InferenceSession.create(graph.model, sessionOptions(this.#on));
    await this.release();
    const size = contractOf(model).outputs[0]?.dims.at(-1) ?? -1;
    const classes = size > 0 ? size : undefined;
    this.#loaded = { key, graph, layout: layoutOf(model), classes, front: await Front.open(model), session };
    return this.#loaded;
  }
}

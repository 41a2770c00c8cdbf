import { createHash } from 'node:crypto';
import {
  buildEvaluationGraph,
  evaluationOf,
  invariant,
  layoutOf,
  MetricSums,
  readModel,
  seeded,
  type EvaluationGraph,
  type EvaluationOptions,
  type TrainingPlan,
  type WeightLayout,
} from '@commonweight/core';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { DataError, type Dataset } from '../data/dataset.ts';
import { Batches, type Feeds, type TargetLimits } from './batches.ts';
import { sessionOptions, type RunsOn } from './engines.ts';
import type { TrainingJob } from './messages.ts';

/** Examples that are measured at once. */
const BATCH = 64;

interface Loaded {
  key: string;
  graph: EvaluationGraph;
  layout: WeightLayout;
  session: InferenceSession;
}

/** Examples that an agent never trains on, and what it measures with them: the version that it is about to train. */
export class HeldOut {
  readonly #data: Dataset;
  readonly #on: RunsOn;
  #loaded: Loaded | undefined;

  constructor(data: Dataset, on: RunsOn) {
    this.#data = data;
    this.#on = on;
  }

  /** The same split in every round, whatever its seed. Throws DataError where there is nothing to set aside. */
  split(evaluation: EvaluationOptions | undefined): { train: readonly number[]; held: readonly number[] } {
    const { examples } = this.#data;
    const all = Array.from({ length: examples }, (_, i) => i);
    if (evaluation === undefined) return { train: all, held: [] };
    if (examples < 2)
      throw new DataError('there is one example, and the task holds some out to measure with: use more data');
    const count = Math.min(examples - 1, Math.max(1, Math.round(examples * evaluation.holdOut)));
    const order = seeded('hold-out').shuffle(all);
    return { train: order.slice(count), held: order.slice(0, count) };
  }

  /** Metrics of weights on what was set aside, by the names that a manifest has. */
  async measure(
    { graph: bytes, weights, plan }: Pick<TrainingJob, 'graph' | 'weights' | 'plan'>,
    held: readonly number[],
    limits: TargetLimits,
  ): Promise<Record<string, number>> {
    const { graph, layout, session } = await this.#load(bytes, plan, Math.min(BATCH, held.length));
    const batches = new Batches(this.#data, graph, limits);
    const places = new Map(layout.parameters.map((parameter) => [parameter.name, parameter]));
    const feeds: Feeds = {};
    for (const { name, input, shape } of graph.parameters) {
      const { offset = 0, length = 0 } = places.get(name) ?? {};
      feeds[input] = new Tensor('float32', weights.slice(offset, offset + length), shape);
    }
    const sums = new MetricSums(graph);
    for (let start = 0; start < held.length; start += graph.batchSize) {
      const batch = await batches.feedsOf(held.slice(start, start + graph.batchSize));
      const outputs = await session.run({ ...feeds, ...batch });
      sums.add(Object.fromEntries(graph.totals.map(({ output }) => [output, outputs[output]!.data as Float32Array])));
    }
    return Object.fromEntries(Object.entries(sums.values()).map(([name, value]) => [`base_${name}`, value]));
  }

  async #load(bytes: Uint8Array, plan: TrainingPlan, batchSize: number): Promise<Loaded> {
    const asked = evaluationOf(plan);
    invariant(asked !== undefined, 'what is set aside is measured');
    const key = `${createHash('sha256').update(bytes).digest('hex')} ${batchSize} ${JSON.stringify(asked)}`;
    if (this.#loaded?.key === key) return this.#loaded;
    const model = readModel(bytes);
    const graph = buildEvaluationGraph(model, asked, batchSize);
    const session = await InferenceSession.create(graph.model, sessionOptions(this.#on));
    await this.#loaded?.session.release();
    this.#loaded = { key, graph, layout: layoutOf(model), session };
    return this.#loaded;
  }
}

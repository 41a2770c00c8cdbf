import {
  buildEvaluationGraph,
  evaluationOf,
  invariant,
  layoutOf,
  MetricSums,
  readModel,
  seeded,
  stepOfEvaluation,
  type EvaluationGraph,
  type EvaluationOptions,
  type EvaluationPlan,
  type WeightLayout,
} from '@commonweight/core';
import { equalBytes } from '@commonweight/proto';
import { DataError, type Dataset } from '../data/dataset.ts';
import { Batches } from './batches.ts';
import { byEngine, type Engine, type Program } from './engine.ts';
import type { TrainingJob } from './messages.ts';
import type { Watched } from './train.ts';

/** Examples that are measured at once. */
const BATCH = 64;

interface Loaded {
  bytes: Uint8Array;
  key: string;
  graph: EvaluationGraph;
  layout: WeightLayout;
  program: Program;
}

/** Examples that an agent never trains on, and what it measures with them: the version that it is about to train. */
export class HeldOut {
  readonly #data: Dataset;
  readonly #engine: Engine;
  #loaded: Loaded | undefined;

  constructor(data: Dataset, engine: Engine) {
    this.#data = data;
    this.#engine = engine;
  }

  /** The same split in every round, whatever its seed. Throws DataError where there is nothing to set aside. */
  split(evaluation: (Partial<EvaluationOptions> & { holdOut: number }) | undefined): {
    train: readonly number[];
    held: readonly number[];
  } {
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
    { classes, watched = {} }: { classes: number | undefined; watched?: Watched },
  ): Promise<Record<string, number>> {
    const asked = evaluationOf(plan);
    invariant(asked !== undefined, 'what is set aside is measured');
    const { graph, sums } = await this.totals({ graph: bytes, weights, plan: asked }, held, { classes, watched });
    const all = new MetricSums(graph);
    all.add(sums);
    return Object.fromEntries(Object.entries(all.values()).map(([name, value]) => [`base_${name}`, value]));
  }

  /** The sums that metrics are made of, over the examples named, by the names of the graph's outputs. */
  async totals(
    { graph: bytes, weights, plan }: { graph: Uint8Array; weights: Float32Array; plan: EvaluationPlan },
    indices: readonly number[],
    { classes, watched }: { classes: number | undefined; watched: Watched },
  ): Promise<{ graph: EvaluationGraph; sums: Record<string, Float64Array> }> {
    const { graph, layout, program } = await this.#load(bytes, plan, Math.max(1, Math.min(BATCH, indices.length)));
    const batches = new Batches(this.#data, graph, classes);
    const places = new Map(layout.parameters.map((parameter) => [parameter.name, parameter]));
    const values: Record<string, Float32Array> = {};
    for (const { name, input } of graph.parameters) {
      const { offset = 0, length = 0 } = places.get(name) ?? {};
      values[input] = weights.subarray(offset, offset + length);
    }
    await byEngine(() => program.write(values));
    const sums: Record<string, Float64Array> = {};
    for (let start = 0; start < indices.length; start += graph.batchSize) {
      const feeds = batches.feedsOf(indices.slice(start, start + graph.batchSize));
      const outputs = await byEngine(() => program.measure(feeds));
      for (const { output } of graph.totals) {
        const found = outputs[output]!;
        const before = sums[output] ?? new Float64Array(found.length);
        sums[output] = before.map((sum, i) => sum + found[i]!);
      }
      await watched.onStep?.();
    }
    return { graph, sums };
  }

  /** Lets go of what is loaded. */
  async release(): Promise<void> {
    await this.#loaded?.program.release();
    this.#loaded = undefined;
  }

  async #load(bytes: Uint8Array, asked: EvaluationPlan, batchSize: number): Promise<Loaded> {
    const key = `${batchSize} ${JSON.stringify(asked)}`;
    if (this.#loaded?.key === key && equalBytes(this.#loaded.bytes, bytes)) return this.#loaded;
    const model = readModel(bytes);
    const graph = buildEvaluationGraph(model, asked, batchSize);
    const program = await byEngine(() => this.#engine.compile(stepOfEvaluation(graph)));
    await this.#loaded?.program.release();
    this.#loaded = { bytes, key, graph, layout: layoutOf(model), program };
    return this.#loaded;
  }
}

import { createHash } from 'node:crypto';
import {
  buildTrainingGraph,
  contractOf,
  dropoutMask,
  layoutOf,
  rateFactor,
  readModel,
  seeded,
  type RandomStream,
  type TrainingGraph,
  type TrainingPlan,
  type WeightLayout,
} from '@commonweight/core';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { sizeOf, type Dataset } from '../data/dataset.ts';
import { Batches, type Feeds } from './batches.ts';
import { Front } from './front.ts';
import { sessionOptions, type RunsOn } from './engines.ts';
import { HeldOut } from './held-out.ts';
import type { TrainingJob, TrainingResult } from './messages.ts';

/** A training graph that is loaded. */
interface Compiled {
  graph: TrainingGraph;
  layout: WeightLayout;
  /** Of the model's output; undefined where its size is not fixed. */
  classes: number | undefined;
  /** What stands in front of the trained part. */
  front: Front | undefined;
  session: InferenceSession;
}

/** Training graphs that are loaded: the last few, since loading one takes longer than a step. */
export class LoadedGraphs {
  readonly #on: RunsOn;
  readonly #max: number;
  readonly #loaded = new Map<string, Compiled>();

  constructor(on: RunsOn, max: number) {
    this.#on = on;
    this.#max = max;
  }

  async get(graphBytes: Uint8Array, plan: TrainingPlan, batchSize: number): Promise<Compiled> {
    const key = `${createHash('sha256').update(graphBytes).digest('hex')} ${batchSize} ${JSON.stringify(plan)}`;
    const known = this.#loaded.get(key);
    this.#loaded.delete(key);
    const compiled = known ?? (await this.#load(graphBytes, plan, batchSize));
    // The last one used is the last one to go.
    this.#loaded.set(key, compiled);
    for (const [oldest, least] of this.#loaded) {
      if (this.#loaded.size <= this.#max) break;
      this.#loaded.delete(oldest);
      await releaseOne(least);
    }
    return compiled;
  }

  async release(): Promise<void> {
    for (const one of this.#loaded.values()) await releaseOne(one);
    this.#loaded.clear();
  }

  async #load(graphBytes: Uint8Array, plan: TrainingPlan, batchSize: number): Promise<Compiled> {
    const model = readModel(graphBytes);
    const graph = buildTrainingGraph(model, plan, batchSize);
    const session = await InferenceSession.create(graph.model, sessionOptions(this.#on));
    const classes = contractOf(model).outputs[0]?.dims.at(-1);
    return {
      graph,
      layout: layoutOf(model),
      classes: plan.loss === 'cross-entropy' && classes !== undefined && classes > 0 ? classes : undefined,
      front: await Front.open(model),
      session,
    };
  }
}

async function releaseOne({ front, session }: Compiled): Promise<void> {
  await front?.release();
  await session.release();
}

/** A task's training, and that of a model of the agent's own. */
const GRAPHS_MAX = 2;

/** Trains on one set, step by step, on ONNX Runtime. */
export class OrtTrainer {
  readonly #data: Dataset;
  readonly #graphs: LoadedGraphs;
  readonly #heldOut: HeldOut;

  constructor(data: Dataset, on: RunsOn, graphs: LoadedGraphs = new LoadedGraphs(on, GRAPHS_MAX)) {
    this.#data = data;
    this.#graphs = graphs;
    this.#heldOut = new HeldOut(data, on);
  }

  async train({ graph, weights, plan, seed, ...more }: TrainingJob): Promise<TrainingResult> {
    const startMs = performance.now();
    const { train: indices, held } = this.#heldOut.split(plan.evaluation);
    const { ignoreIndex } = plan.lossOptions ?? {};
    const batchSize = Math.min(plan.batchSize, indices.length);
    const compiled = await this.#graphs.get(graph, plan, batchSize);
    const batches = new Batches(this.#data, compiled.graph, { ...compiled, ignoreIndex });
    const metrics = held.length === 0 ? {} : await this.#heldOut.measure({ graph, weights, plan }, held);
    const random = seeded(seed);
    let feeds = firstFeeds(compiled, weights, more);
    const baseLoss =
      more.needsBaseLoss === true ? await this.#lossOf(compiled, plan, feeds, { batches, indices }) : undefined;
    let loss = 0;
    let steps = 0;
    const total = plan.epochs * Math.ceil(indices.length / compiled.graph.batchSize);
    for (let epoch = 0; epoch < plan.epochs; epoch++) {
      let lossSum = 0;
      const order = random.fork(`epoch ${epoch}`).shuffle([...indices]);
      for (let start = 0; start < order.length; start += compiled.graph.batchSize) {
        const batch = order.slice(start, start + compiled.graph.batchSize);
        const outputs = await compiled.session.run({
          ...feeds,
          ...rateFeed(compiled.graph, plan, steps, total),
          ...maskFeeds(compiled.graph, random.fork(`dropout ${steps}`)),
          ...(await batches.feedsOf(batch)),
        });
        feeds = nextFeeds(compiled.graph, feeds, outputs);
        lossSum += Number(outputs[compiled.graph.loss]?.data[0]) * batch.length;
        steps++;
      }
      loss = lossSum / order.length;
      if (!Number.isFinite(loss)) {
        throw new Error(
          `the loss became ${loss} in epoch ${epoch + 1}: lower the learning rate, or look for bad values in the data`,
        );
      }
    }
    const trained = new Float32Array(weights.length);
    compiled.graph.parameters.forEach(({ input }, i) => {
      trained.set(feeds[input]?.data as Float32Array, compiled.layout.parameters[i]?.offset ?? 0);
    });
    const ms = performance.now() - startMs;
    const result = { weights: trained, loss, examples: indices.length, steps, ms, metrics };
    return baseLoss === undefined ? result : { ...result, baseLoss };
  }

  /** The mean loss of weights over all examples: steps are taken, and nothing of them but the loss is used. */
  async #lossOf(
    { graph, session }: Compiled,
    plan: TrainingPlan,
    feeds: Feeds,
    { batches, indices }: { batches: Batches; indices: readonly number[] },
  ): Promise<number> {
    let sum = 0;
    for (let start = 0; start < indices.length; start += graph.batchSize) {
      const batch = indices.slice(start, start + graph.batchSize);
      const outputs = await session.run(
        { ...feeds, ...rateFeed(graph, plan, 0, 1), ...(await batches.feedsOf(batch)) },
        [graph.loss],
      );
      sum += Number(outputs[graph.loss]?.data[0]) * batch.length;
    }
    return sum / indices.length;
  }
}

function firstFeeds(
  { graph, layout }: Compiled,
  weights: Float32Array,
  { anchor = weights, correction = new Float32Array(weights.length) }: Pick<TrainingJob, 'anchor' | 'correction'>,
): Feeds {
  const feeds: Feeds = {};
  const places = new Map(layout.parameters.map((parameter) => [parameter.name, parameter]));
  const part = (whole: Float32Array, name: string): Tensor => {
    const { offset = 0, length = 0, shape = [] } = places.get(name) ?? {};
    return new Tensor('float32', whole.slice(offset, offset + length), shape);
  };
  for (const { name, input } of graph.parameters) feeds[input] = part(weights, name);
  for (const { input, shape } of graph.state) feeds[input] = zeros(shape);
  for (const { input, parameter } of graph.anchors) feeds[input] = part(anchor, parameter);
  for (const { input, parameter } of graph.corrections) feeds[input] = part(correction, parameter);
  return feeds;
}

/** The share of the learning rate, where the plan has a schedule. */
function rateFeed({ rate }: TrainingGraph, { schedule }: TrainingPlan, step: number, steps: number): Feeds {
  if (rate === undefined || schedule === undefined) return {};
  return { [rate]: new Tensor('float32', Float32Array.of(rateFactor(schedule, step, steps)), [1]) };
}

/** What each Dropout drops in this step; the same seed drops the same. */
function maskFeeds({ masks }: TrainingGraph, random: RandomStream): Feeds {
  return Object.fromEntries(
    masks.map((mask) => [mask.input, new Tensor('float32', dropoutMask(mask, random.fork(mask.input)), mask.shape)]),
  );
}

/** Outputs of one step are the inputs of the next, without a copy in JavaScript. */
function nextFeeds(graph: TrainingGraph, feeds: Feeds, outputs: InferenceSession.OnnxValueMapType): Feeds {
  const next = { ...feeds };
  for (const { input, output } of [...graph.parameters, ...graph.state]) next[input] = outputs[output] as Tensor;
  return next;
}

const zeros = (shape: readonly number[]): Tensor => new Tensor('float32', new Float32Array(sizeOf(shape)), shape);

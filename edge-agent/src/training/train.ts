import { createHash } from 'node:crypto';
import {
  buildTrainingGraph,
  contractOf,
  layoutOf,
  rateFactor,
  readModel,
  seeded,
  type TrainingGraph,
  type TrainingPlan,
  type WeightLayout,
} from '@commonweight/core';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { DataError, type Dataset } from '../data/dataset.ts';
import type { TrainingJob, TrainingResult } from './messages.ts';

/** A training graph that is loaded. */
interface Compiled {
  key: string;
  graph: TrainingGraph;
  layout: WeightLayout;
  /** Of the model's output; undefined where its size is not fixed. */
  classes: number | undefined;
  session: InferenceSession;
}

/** Trains on one set, step by step, on ONNX Runtime's CPU provider. Keeps the last graph that it compiled. */
export class OrtTrainer {
  readonly #data: Dataset;
  readonly #threads: number;
  #compiled: Compiled | undefined;

  constructor(data: Dataset, threads: number) {
    this.#data = data;
    this.#threads = threads;
  }

  async train({ graph, weights, plan, seed }: TrainingJob): Promise<TrainingResult> {
    const startMs = performance.now();
    const compiled = await this.#compile(graph, plan);
    const batches = new Batches(this.#data, compiled.graph, compiled.classes);
    const random = seeded(seed);
    let feeds = firstFeeds(compiled, weights);
    let loss = 0;
    let steps = 0;
    const total = plan.epochs * Math.ceil(this.#data.examples / compiled.graph.batchSize);
    for (let epoch = 0; epoch < plan.epochs; epoch++) {
      let lossSum = 0;
      const order = random.fork(`epoch ${epoch}`).shuffle(Array.from(this.#data.labels.keys()));
      for (let start = 0; start < order.length; start += compiled.graph.batchSize) {
        const batch = order.slice(start, start + compiled.graph.batchSize);
        const outputs = await compiled.session.run({
          ...feeds,
          ...rateFeed(compiled.graph, plan, steps, total),
          ...batches.feedsOf(batch),
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
    return { weights: trained, loss, examples: this.#data.examples, steps, ms: performance.now() - startMs };
  }

  async #compile(graphBytes: Uint8Array, plan: TrainingPlan): Promise<Compiled> {
    const key = `${createHash('sha256').update(graphBytes).digest('hex')} ${JSON.stringify(plan)}`;
    if (this.#compiled?.key === key) return this.#compiled;
    await this.#compiled?.session.release();
    this.#compiled = undefined;
    const model = readModel(graphBytes);
    const batchSize = Math.min(plan.batchSize, this.#data.examples);
    const graph = buildTrainingGraph(model, plan, batchSize);
    const session = await InferenceSession.create(graph.model, {
      executionProviders: ['cpu'],
      intraOpNumThreads: this.#threads,
      interOpNumThreads: 1,
    });
    const classes = contractOf(model).outputs[0]?.dims.at(-1);
    return (this.#compiled = {
      key,
      graph,
      layout: layoutOf(model),
      classes: classes !== undefined && classes > 0 ? classes : undefined,
      session,
    });
  }
}

type Feeds = Record<string, Tensor>;

function firstFeeds({ graph, layout }: Compiled, weights: Float32Array): Feeds {
  const feeds: Feeds = {};
  const valuesOf = new Map<string, Tensor>();
  graph.parameters.forEach(({ name, input, shape }, i) => {
    const { offset = 0, length = 0 } = layout.parameters[i] ?? {};
    valuesOf.set(name, (feeds[input] = new Tensor('float32', weights.slice(offset, offset + length), shape)));
  });
  for (const { input, shape } of graph.state) feeds[input] = zeros(shape);
  for (const { input, parameter } of graph.anchors) feeds[input] = valuesOf.get(parameter) as Tensor;
  return feeds;
}

/** The share of the learning rate, where the plan has a schedule. */
function rateFeed({ rate }: TrainingGraph, { schedule }: TrainingPlan, step: number, steps: number): Feeds {
  if (rate === undefined || schedule === undefined) return {};
  return { [rate]: new Tensor('float32', Float32Array.of(rateFactor(schedule, step, steps)), [1]) };
}

/** Outputs of one step are the inputs of the next, without a copy in JavaScript. */
function nextFeeds(graph: TrainingGraph, feeds: Feeds, outputs: InferenceSession.OnnxValueMapType): Feeds {
  const next = { ...feeds };
  for (const { input, output } of [...graph.parameters, ...graph.state]) next[input] = outputs[output] as Tensor;
  return next;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, dim) => product * dim, 1);
const zeros = (shape: readonly number[]): Tensor => new Tensor('float32', new Float32Array(sizeOf(shape)), shape);

/** Turns examples into the tensors of a batch. */
class Batches {
  readonly #data: Dataset;
  readonly #graph: TrainingGraph;
  readonly #inputSize: number;
  readonly #targetSize: number;

  constructor(data: Dataset, graph: TrainingGraph, classes: number | undefined) {
    this.#data = data;
    this.#graph = graph;
    this.#inputSize = sizeOf(graph.data.shape) / graph.batchSize;
    this.#targetSize = sizeOf(graph.target.shape) / graph.batchSize;
    const given = data.inputs.length / data.examples;
    if (given !== this.#inputSize) {
      throw new DataError(
        `an example has ${given} values and the model takes ${this.#inputSize}: use data that fits the model`,
      );
    }
    const isClass = graph.target.dtype === 'int64';
    const wrong = data.labels.find((label) => isClass && classes !== undefined && (label < 0 || label >= classes));
    if (wrong !== undefined) {
      throw new DataError(
        `there is a label ${wrong} and the model has ${classes} classes, from 0 on: use data that fits the model`,
      );
    }
  }

  /** A batch; what a partial one lacks is filled with zeros of weight 0, so no example is dropped and none is counted twice. */
  feedsOf(indices: readonly number[]): Feeds {
    const { data, target, sampleWeights, batchSize } = this.#graph;
    const inputs = new Float32Array(batchSize * this.#inputSize);
    const weights = new Float32Array(batchSize).fill(1, 0, indices.length);
    indices.forEach((index, i) => {
      inputs.set(
        this.#data.inputs.subarray(index * this.#inputSize, (index + 1) * this.#inputSize),
        i * this.#inputSize,
      );
    });
    return {
      [data.name]: new Tensor('float32', inputs, data.shape),
      [target.name]: target.dtype === 'int64' ? this.#classTarget(indices) : this.#floatTarget(indices),
      [sampleWeights]: new Tensor('float32', weights, [batchSize]),
    };
  }

  #classTarget(indices: readonly number[]): Tensor {
    const { target, batchSize } = this.#graph;
    const labels = new BigInt64Array(batchSize);
    indices.forEach((index, i) => (labels[i] = BigInt(this.#data.labels[index] ?? 0)));
    return new Tensor('int64', labels, target.shape);
  }

  /** One output takes the label itself, several take it one-hot. */
  #floatTarget(indices: readonly number[]): Tensor {
    const { target, batchSize } = this.#graph;
    const size = this.#targetSize;
    const values = new Float32Array(batchSize * size);
    indices.forEach((index, i) => {
      const label = this.#data.labels[index] ?? 0;
      if (size === 1) values[i] = label;
      else if (label < size) values[i * size + label] = 1;
    });
    return new Tensor('float32', values, target.shape);
  }
}

/** Milliseconds of one training step, ours on ONNX Runtime against TensorFlow.js; one thread. */
import { createRequire } from 'node:module';
import * as ort from 'onnxruntime-node';
import { buildTrainingGraph, fedAvg2nn, fedAvgCnn, layoutOf, readModel, splitModel } from '@commonweight/core';
import type { ModelProto, TrainingPlan } from '@commonweight/core';
import type * as Tf from '@tensorflow/tfjs-core';
import { resnet18 } from '../support/resnet18.ts';
import { loadTfjs } from '../support/tfjs.ts';

const batches = [10, 32, 256];
const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.05 },
  epochs: 1,
  batchSize: 10,
};

export async function run(): Promise<Record<string, number | null>> {
  const figures: Record<string, number | null> = {};
  for (const [name, model] of [['2nn', fedAvg2nn(1)] as const, ['cnn', fedAvgCnn(1)] as const]) {
    for (const batch of batches) figures[`ms_${name}_b${batch}`] = await ourStepMs(model, batch);
  }
  figures['build_ms_resnet18'] = buildMs();
  const require = createRequire(import.meta.url);
  const theirs = await bestOfBackends(require, twoLayerStep, 5);
  figures['ratio_tfjs_2nn_b10'] = ratio(figures['ms_2nn_b10'], theirs);
  figures['ratio_tfjs_cnn_b10'] = ratio(figures['ms_cnn_b10'], await bestOfBackends(require, cnnStep, 1));
  return figures;
}

/** Writing the training graph of a whole ResNet-18: what an agent does once for each task, before ONNX Runtime loads it. */
function buildMs(): number {
  const split = readModel(splitModel(resnet18()).graph);
  const times = Array.from({ length: 7 }, () => {
    const startMs = performance.now();
    buildTrainingGraph(split, plan, 32);
    return performance.now() - startMs;
  });
  // The first one compiles our own code, and an agent has just that.
  return times[0]!;
}

function ratio(ours: number | null | undefined, theirs: number | null): number | null {
  return ours === null || ours === undefined || theirs === null ? null : ours / theirs;
}

/** Median over steps whose weights feed the next step, as in real training. */
async function ourStepMs(model: ModelProto, batchSize: number): Promise<number> {
  const { graph, weights } = splitModel(model);
  const split = readModel(graph);
  const training = buildTrainingGraph(split, plan, batchSize);
  const session = await ort.InferenceSession.create(training.model, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const feeds: Record<string, ort.Tensor> = {};
  const random = (length: number): Float32Array =>
    Float32Array.from({ length }, (_, index) => Math.abs(Math.sin(index)));
  const [data] = training.data;
  const size = data!.shape.reduce((product, axis) => product * axis, 1);
  feeds[data!.name] = new ort.Tensor('float32', random(size), data!.shape);
  const labels = BigInt64Array.from({ length: batchSize }, (_, index) => BigInt(index % 10));
  feeds[training.target.name] = new ort.Tensor('int64', labels, [batchSize]);
  feeds[training.sampleWeights] = new ort.Tensor('float32', new Float32Array(batchSize).fill(1), [batchSize]);
  for (const { name, shape, offset, length } of layoutOf(split).parameters) {
    feeds[name] = new ort.Tensor('float32', weights.slice(offset, offset + length), shape);
  }
  const times: number[] = [];
  const endMs = performance.now() + 1500;
  while (times.length < 12 || (performance.now() < endMs && times.length < 1000)) {
    const startMs = performance.now();
    const results = await session.run(feeds);
    for (const { input, output } of training.parameters) feeds[input] = results[output]!;
    times.push(performance.now() - startMs);
  }
  await session.release();
  return median(times.slice(3));
}

function median(times: number[]): number {
  return times.toSorted((a, b) => a - b)[times.length >> 1]!;
}

type TfjsStep = (tf: typeof Tf) => () => Tf.Scalar;

/** The faster of TensorFlow.js's portable backends, or null where neither can do the step. */
async function bestOfBackends(require: NodeJS.Require, makeStep: TfjsStep, steps: number): Promise<number | null> {
  const tf = loadTfjs();
  require('@tensorflow/tfjs-backend-wasm');
  let best: number | null = null;
  for (const backend of ['wasm', 'cpu']) {
    const stepMs = await theirStepMs(tf, backend, makeStep, steps);
    if (stepMs !== undefined && (best === null || stepMs < best)) best = stepMs;
  }
  return best;
}

async function theirStepMs(
  tf: typeof Tf,
  backend: string,
  makeStep: TfjsStep,
  steps: number,
): Promise<number | undefined> {
  try {
    if (!(await tf.setBackend(backend))) return undefined;
    await tf.ready();
    const loss = makeStep(tf);
    const optimizer = tf.train.sgd(0.05);
    const times: number[] = [];
    for (let step = 0; step < steps; step++) {
      const startMs = performance.now();
      const value = optimizer.minimize(loss, true)!;
      await value.data();
      value.dispose();
      times.push(performance.now() - startMs);
    }
    return median(steps > 2 ? times.slice(1) : times);
  } catch (error) {
    // The wasm backend lacks the gradient of a convolution's kernel.
    if (error instanceof Error && /not registered/.test(error.message)) return undefined;
    throw error;
  } finally {
    tf.disposeVariables();
  }
}

const twoLayerStep: TfjsStep = (tf) => {
  const weights = [
    [784, 200],
    [200, 200],
    [200, 10],
  ].map((shape) => tf.variable(tf.randomNormal(shape, 0, 0.05)));
  const biases = [200, 200, 10].map((units) => tf.variable(tf.zeros([units])));
  const x = tf.randomUniform([10, 784]) as Tf.Tensor2D;
  const labels = tf.oneHot(tf.range(0, 10, 1, 'int32'), 10);
  return () =>
    tf.tidy(() => {
      let hidden: Tf.Tensor = x;
      weights.forEach((weight, index) => {
        hidden = tf.add(tf.matMul(hidden, weight), biases[index]!);
        if (index < 2) hidden = tf.relu(hidden);
      });
      return crossEntropy(tf, hidden, labels);
    });
};

const cnnStep: TfjsStep = (tf) => {
  const kernels = [
    [5, 5, 1, 32],
    [5, 5, 32, 64],
  ].map((shape) => tf.variable(tf.randomNormal(shape, 0, 0.05)));
  const dense = [
    [3136, 512],
    [512, 10],
  ].map((shape) => tf.variable(tf.randomNormal(shape, 0, 0.02)));
  const biases = [32, 64, 512, 10].map((units) => tf.variable(tf.zeros([units])));
  const x = tf.randomUniform([10, 28, 28, 1]) as Tf.Tensor4D;
  const labels = tf.oneHot(tf.range(0, 10, 1, 'int32'), 10);
  return () =>
    tf.tidy(() => {
      let image: Tf.Tensor4D = x;
      kernels.forEach((kernel, index) => {
        const sum = tf.add(tf.conv2d(image, kernel as Tf.Tensor as Tf.Tensor4D, 1, 'same'), biases[index]!);
        image = tf.maxPool(tf.relu(sum) as Tf.Tensor4D, 2, 2, 'valid');
      });
      const flat = tf.reshape(image, [10, 3136]);
      const hidden = tf.relu(tf.add(tf.matMul(flat, dense[0]!), biases[2]!));
      return crossEntropy(tf, tf.add(tf.matMul(hidden, dense[1]!), biases[3]!), labels);
    });
};

function crossEntropy(tf: typeof Tf, logits: Tf.Tensor, labels: Tf.Tensor): Tf.Scalar {
  return tf.neg(tf.mean(tf.sum(tf.mul(labels, tf.logSoftmax(logits)), -1))) as Tf.Scalar;
}

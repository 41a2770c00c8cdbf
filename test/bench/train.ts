/** Milliseconds of one training step, ours by the engine `ort-cpu`, against TensorFlow.js and PyTorch; one thread. */
import { createRequire } from 'node:module';
import { buildTrainingGraph, fedAvg2nn, fedAvgCnn, readModel, splitModel, writeModel } from '@commonweight/core';
import type { ModelProto } from '@commonweight/core';
import type * as Tf from '@tensorflow/tfjs-core';
import { loadTfjs } from '../support/tfjs.ts';
import { againstTorch, median } from './train-against-torch.ts';
import { resnet18 } from './train-models.ts';
import { ourStepper, plan } from './train-step.ts';

const batches = [10, 32, 256];

export async function run(): Promise<Record<string, number | null>> {
  const figures: Record<string, number | null> = {};
  for (const [name, model] of [['2nn', fedAvg2nn(1)] as const, ['cnn', fedAvgCnn(1)] as const]) {
    for (const batch of batches) figures[`ms_${name}_b${batch}`] = await ourStepMs(model, batch);
  }
  const require = createRequire(import.meta.url);
  const theirs = await bestOfBackends(require, twoLayerStep, 5);
  figures['ratio_tfjs_2nn_b10'] = ratio(figures['ms_2nn_b10'], theirs);
  figures['ratio_tfjs_cnn_b10'] = ratio(figures['ms_cnn_b10'], await bestOfBackends(require, cnnStep, 1));
  figures['build_ms_resnet18'] = buildMs(resnet18());
  return { ...figures, ...(await againstTorch()) };
}

function ratio(ours: number | null | undefined, theirs: number | null): number | null {
  return ours === null || ours === undefined || theirs === null ? null : ours / theirs;
}

/** Median over steps whose weights feed the next step, as in real training. */
async function ourStepMs(model: ModelProto, batchSize: number): Promise<number> {
  const stepper = await ourStepper(model, batchSize);
  const times: number[] = [];
  const endMs = performance.now() + 1500;
  await stepper.run(4);
  while (times.length < 12 || performance.now() < endMs) times.push(...(await stepper.run(4)));
  await stepper.release();
  return median(times);
}

/** From the bytes of a file to those of the step's graph; the second time, since compiling our own code is no part of it. */
function buildMs(model: ModelProto): number {
  const file = writeModel(model);
  const [, ms] = [1, 2].map(() => {
    const startMs = performance.now();
    buildTrainingGraph(readModel(splitModel(readModel(file)).graph), plan, 32);
    return performance.now() - startMs;
  });
  return ms!;
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

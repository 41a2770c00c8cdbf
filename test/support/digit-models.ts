import { exampleInputs, labelsOf, loadDataset, valuesOfExample, type Dataset } from '@commonweight/edge-agent';
import {
  buildTrainingGraph,
  joinModel,
  layoutOf,
  readModel,
  splitModel,
  writeModel,
  type ModelProto,
} from '@commonweight/core';
import * as ort from 'onnxruntime-node';

const BATCH = 50;
const options: ort.InferenceSession.SessionOptions = {
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  logSeverityLevel: 3,
};

export const openSession = (model: ModelProto | Uint8Array): Promise<ort.InferenceSession> =>
  ort.InferenceSession.create(model instanceof Uint8Array ? model : writeModel(model), options);

/** Trains a model on real digits for a number of steps of 50 images. */
export async function trainedOnDigits(model: ModelProto, steps: number): Promise<ModelProto> {
  return await trainedOn(await loadDataset('mnist'), model, steps);
}

/** Trains a model on any data set, going through it again and again. */
export async function trainedOn(
  data: Dataset,
  model: ModelProto,
  steps: number,
  learningRate = 0.1,
): Promise<ModelProto> {
  const { graph, weights } = splitModel(model);
  const split = readModel(graph);
  const layout = layoutOf(split);
  const training = buildTrainingGraph(
    split,
    { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate }, epochs: 1, batchSize: BATCH },
    BATCH,
  );
  const session = await openSession(training.model);
  const feeds: Record<string, ort.Tensor> = {
    [training.sampleWeights]: new ort.Tensor('float32', new Float32Array(BATCH).fill(1), [BATCH]),
  };
  for (const { name, shape, offset, length } of layout.parameters) {
    feeds[name] = new ort.Tensor('float32', weights.slice(offset, offset + length), shape);
  }
  const batches = Math.floor(data.examples / BATCH);
  for (let step = 0; step < steps; step++) {
    const { inputs, labels } = examplesOf(data, (step % batches) * BATCH, BATCH);
    feeds[training.data[0]!.name] = new ort.Tensor('float32', inputs, training.data[0]!.shape);
    feeds[training.target.name] = new ort.Tensor('int64', BigInt64Array.from(labels, BigInt), [BATCH]);
    const results = await session.run(feeds);
    for (const { input, output } of training.parameters) feeds[input] = results[output]!;
  }
  await session.release();
  const trained = new Float32Array(layout.length);
  for (const { name, offset } of layout.parameters) trained.set(feeds[name]!.data as Float32Array, offset);
  return readModel(joinModel(split, trained));
}

export function examplesOf(data: Dataset, start: number, count: number): { inputs: Float32Array; labels: Int32Array } {
  const indices = Array.from({ length: count }, (_, at) => start + at);
  const size = valuesOfExample(data);
  const { x } = exampleInputs(data, [{ name: 'x', dtype: 'float', dims: [-1, size] }], indices);
  return { inputs: x!.data as Float32Array, labels: labelsOf(data)!.slice(start, start + count) };
}

/** Outputs of a model by name for these inputs of 28 by 28 pixels. */
export async function outputsOf(
  model: ModelProto,
  inputs: Float32Array,
  dims: readonly number[],
): Promise<Map<string, Float32Array>> {
  const session = await openSession(model);
  const input = new ort.Tensor('float32', inputs, dims);
  const results = await session.run({ [session.inputNames[0]!]: input });
  await session.release();
  return new Map(Object.entries(results).map(([name, { data }]) => [name, data as Float32Array]));
}

/** Share of rows whose largest logit is that of the label. */
export function accuracyOf(logits: Float32Array, labels: ArrayLike<number>): number {
  const classes = logits.length / labels.length;
  let right = 0;
  for (let row = 0; row < labels.length; row++) {
    const scores = logits.subarray(row * classes, (row + 1) * classes);
    if (scores.indexOf(Math.max(...scores)) === labels[row]) right += 1;
  }
  return right / labels.length;
}

import { contractOf, joinModel, readModel, type LossName } from '@commonweight/core';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { DataError, type Dataset } from '../data/dataset.ts';

/** How good weights are on some examples, as sums, so that parts of a set add up. */
export interface Evaluation {
  examples: number;
  /** Examples whose class is the likeliest; undefined where a model does not tell classes apart. */
  correct: number | undefined;
  lossSum: number;
}

const BATCH = 256;

/** Runs a model over examples. Of losses other than cross-entropy the squared error stands for the loss. */
export async function evaluate(
  graph: Uint8Array,
  weights: Float32Array,
  data: Dataset,
  { loss, threads }: { loss: LossName; threads: number },
): Promise<Evaluation> {
  const model = readModel(graph);
  const { inputs, outputs } = contractOf(model);
  const [input, output] = [inputs[0], outputs[0]];
  if (input === undefined || output === undefined) throw new DataError('the model has no input or no output');
  const isClassifier = loss === 'cross-entropy';
  // Of a model that ends in a Softmax the outputs are shares. Those of a LogSoftmax are logits like any others.
  const isShares = model.graph?.node.find((node) => node.output[0] === output.name)?.opType === 'Softmax';
  const session = await InferenceSession.create(joinModel(model, weights), {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
  });
  const size = data.inputs.length / data.examples;
  const fixed = input.dims[0] ?? -1;
  let [correct, lossSum] = [0, 0];
  try {
    const step = fixed > 0 ? fixed : BATCH;
    for (let start = 0; start < data.examples; start += step) {
      const count = Math.min(step, data.examples - start);
      const rows = fixed > 0 ? fixed : count;
      const values = new Float32Array(rows * size);
      values.set(data.inputs.subarray(start * size, (start + count) * size));
      const dims = input.dims.map((dim, axis) => (axis === 0 ? rows : dim));
      const results = await session.run({ [input.name]: new Tensor('float32', values, dims) });
      const all = results[output.name]?.data as Float32Array;
      const width = all.length / rows;
      for (let i = 0; i < count; i++) {
        const row = all.subarray(i * width, (i + 1) * width);
        const label = data.labels[start + i] ?? 0;
        if (isClassifier) {
          const largest = row.reduce((best, value, at) => (value > (row[best] ?? -Infinity) ? at : best), 0);
          if (largest === label) correct++;
          lossSum += isShares ? -Math.log(Math.max(row[label] ?? 0, 1e-30)) : -logShare(row, label);
        } else {
          lossSum += row.reduce((sum, value, at) => sum + (value - wanted(label, at, width)) ** 2, 0) / width;
        }
      }
    }
  } finally {
    await session.release();
  }
  return { examples: data.examples, correct: isClassifier ? correct : undefined, lossSum };
}

/** One output is the label itself, several are one-hot. */
const wanted = (label: number, at: number, width: number): number => (width === 1 ? label : at === label ? 1 : 0);

function logShare(logits: Float32Array, label: number): number {
  const largest = logits.reduce((max, value) => Math.max(max, value), -Infinity);
  const total = logits.reduce((sum, value) => sum + Math.exp(value - largest), 0);
  return (logits[label] ?? 0) - largest - Math.log(total);
}

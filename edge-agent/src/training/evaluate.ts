import { contractOf, joinModel, readModel, type TrainingPlan } from '@commonweight/core';
import { InferenceSession, type Tensor } from 'onnxruntime-node';
import { bindInputs, bindTarget, LABEL, type BoundInput } from '../data/bind.ts';
import { DataError, sizeOf, type Dataset } from '../data/dataset.ts';
import { rowsOf } from './rows-of.ts';

/** How good weights are on some examples, as sums, so that parts of a set add up. */
export interface Evaluation {
  /** Answers that were asked for: one an example, or one a place of a sequence. */
  examples: number;
  /** Answers whose class is the likeliest; undefined where a model does not tell classes apart. */
  correct: number | undefined;
  lossSum: number;
}

/** What of a plan decides how a model is measured. */
export type MeasuredBy = Pick<TrainingPlan, 'loss' | 'lossOptions' | 'sizes'>;

const BATCH = 256;

/** Runs a model over examples. Of losses other than cross-entropy the squared error stands for the loss. */
export async function evaluate(
  graph: Uint8Array,
  weights: Float32Array,
  data: Dataset,
  { threads, ...plan }: MeasuredBy & { threads: number },
): Promise<Evaluation> {
  const model = readModel(graph);
  const { inputs, outputs } = contractOf(model);
  const [output] = outputs;
  if (output === undefined) throw new DataError('the model has no output');
  const session = await InferenceSession.create(joinModel(model, weights), {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
  });
  const bound = bindInputs(
    data,
    inputs.map(({ name, dtype, dims, symbols }) => ({
      name,
      dtype,
      shape: dims.slice(1).map((size, axis) => (size < 0 ? (plan.sizes?.[symbols?.[axis + 1] ?? ''] ?? size) : size)),
    })),
  );
  // Of a model that ends in a Softmax the outputs are shares. Those of a LogSoftmax are logits like any others.
  const isShares = model.graph?.node.find((node) => node.output[0] === output.name)?.opType === 'Softmax';
  const fixed = inputs[0]?.dims[0] ?? -1;
  const step = fixed > 0 ? fixed : BATCH;
  const sums = { examples: 0, correct: 0, lossSum: 0 };
  let target: BoundInput | undefined;
  try {
    for (let start = 0; start < data.examples; start += step) {
      const count = Math.min(step, data.examples - start);
      const indices = Array.from({ length: count }, (_, index) => start + index);
      const rows = fixed > 0 ? fixed : count;
      const results = await session.run(
        Object.fromEntries(bound.map((input) => [input.name, rowsOf(input, indices, rows)])),
      );
      const predicted = results[output.name]!;
      target ??= targetOf(data, predicted, plan);
      if (plan.loss === 'cross-entropy') addClasses(sums, { predicted, target, start, count, isShares, plan });
      else addDistances(sums, { predicted, target, start, count });
    }
  } finally {
    await session.release();
  }
  return plan.loss === 'cross-entropy' ? sums : { ...sums, correct: undefined };
}

function targetOf(data: Dataset, { dims }: Tensor, { loss, lossOptions }: MeasuredBy): BoundInput {
  const shape = loss === 'cross-entropy' ? dims.slice(1, -1) : dims.slice(1);
  const dtype = loss === 'cross-entropy' ? 'int64' : 'float';
  return bindTarget(data, { name: LABEL, dtype, shape }, lossOptions?.ignoreIndex);
}

interface Measured {
  predicted: Tensor;
  target: BoundInput;
  start: number;
  count: number;
}

type Sums = Evaluation & { correct: number };

function addClasses(
  sums: Sums,
  { predicted, target, start, count, isShares, plan }: Measured & { isShares: boolean; plan: MeasuredBy },
): void {
  const values = predicted.data as Float32Array;
  const classes = predicted.dims.at(-1)!;
  const places = sizeOf(target.shape);
  const labels = target.values as BigInt64Array;
  for (let at = 0; at < count * places; at++) {
    const label = Number(labels[start * places + at]);
    if (label === plan.lossOptions?.ignoreIndex) continue;
    const row = values.subarray(at * classes, (at + 1) * classes);
    const largest = row.reduce((best, value, index) => (value > (row[best] ?? -Infinity) ? index : best), 0);
    if (largest === label) sums.correct++;
    sums.lossSum += isShares ? -Math.log(Math.max(row[label] ?? 0, 1e-30)) : -logShare(row, label);
    sums.examples++;
  }
}

/** Mean squared errors of examples. */
function addDistances(sums: Sums, { predicted, target, start, count }: Measured): void {
  const values = predicted.data as Float32Array;
  const wanted = target.values as Float32Array;
  const size = sizeOf(target.shape);
  for (let at = 0; at < count * size; at++) sums.lossSum += (values[at]! - wanted[start * size + at]!) ** 2 / size;
  sums.examples += count;
}

function logShare(logits: Float32Array, label: number): number {
  const largest = logits.reduce((max, value) => Math.max(max, value), -Infinity);
  const total = logits.reduce((sum, value) => sum + Math.exp(value - largest), 0);
  return (logits[label] ?? 0) - largest - Math.log(total);
}

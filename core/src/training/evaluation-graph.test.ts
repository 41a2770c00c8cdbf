import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { ConfigError } from '../errors.ts';
import { readModel } from '../onnx/file.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { splitModel } from '../onnx/parameters.ts';
import { floatTensor } from '../onnx/tensor-data.ts';
import { seeded } from '../random/stream.ts';
import { sizeOf } from '../tensor/shape.ts';
import { buildEvaluationGraph, MetricSums } from './evaluation-graph.ts';
import type { EvaluationPlan } from './evaluation-graph.ts';
import type { MetricName } from './metrics.ts';

const batchSize = 4;

interface Examples {
  /** Of one prediction, without the batch. */
  shape: number[];
  predictions: number[];
  targets: number[];
  /** Examples in all; the last batch is filled up. */
  count: number;
}

/** Measures a model that answers with its input, batch by batch. */
async function measure(
  plan: EvaluationPlan,
  { shape, predictions, targets, count }: Examples,
): Promise<Partial<Record<MetricName, number>>> {
  const model = makeModel({
    name: 'echo',
    node: [makeNode('Mul', ['x', 'w'], ['y'])],
    initializer: [floatTensor('w', [1], Float32Array.of(1))],
    input: [makeValue('x', ['batch', ...shape])],
    output: [makeValue('y', ['batch', ...shape])],
  });
  const graph = buildEvaluationGraph(readModel(splitModel(model).graph), plan, batchSize);
  const session = await ort.InferenceSession.create(graph.model, { logSeverityLevel: 3 });
  const sums = new MetricSums(graph);
  const perTarget = sizeOf(graph.target.shape) / batchSize;
  for (let start = 0; start < count; start += batchSize) {
    const real = Math.min(batchSize, count - start);
    const part = (values: number[], each: number): number[] =>
      Array.from({ length: batchSize * each }, (_, index) => (index < real * each ? values[start * each + index]! : 0));
    const labels = part(targets, perTarget);
    const results = await session.run({
      x: new ort.Tensor('float32', Float32Array.from(part(predictions, sizeOf(shape))), [batchSize, ...shape]),
      w: new ort.Tensor('float32', Float32Array.of(1), [1]),
      [graph.target.name]:
        graph.target.dtype === 'int64'
          ? new ort.Tensor('int64', BigInt64Array.from(labels.map(BigInt)), graph.target.shape)
          : new ort.Tensor('float32', Float32Array.from(labels), graph.target.shape),
      [graph.sampleWeights]: new ort.Tensor('float32', new Float32Array(batchSize).fill(1, 0, real), [batchSize]),
    });
    const outputs = graph.totals.map(({ output }) => [output, results[output]!.data as Float32Array] as const);
    sums.add(Object.fromEntries(outputs));
  }
  await session.release();
  return sums.values();
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Macro F1 of decisions, each a list of the classes that were said and that are. */
function f1(said: readonly number[][], is: readonly number[][], classes: number): number {
  const scores = Array.from({ length: classes }, (_, c) => {
    const count = (lists: readonly number[][]): number => lists.filter((list) => list.includes(c)).length;
    const hits = said.filter((list, index) => list.includes(c) && is[index]!.includes(c)).length;
    return { hits, marks: count(said) + count(is) };
  }).filter(({ marks }) => marks > 0);
  return mean(scores.map(({ hits, marks }) => (2 * hits) / marks));
}

test.each([1, 2, 3, 4, 5])('classes are measured as by hand, over whole and partial batches (%i)', async (seed) => {
  const random = seeded(seed);
  const [count, classes] = [7, 4];
  const predictions = Array.from({ length: count * classes }, () => random.normal());
  const targets = Array.from({ length: count }, () => random.integer(classes));
  const rows = targets.map((_, index) => predictions.slice(index * classes, (index + 1) * classes).map(Math.fround));
  const order = rows.map((row) => [...row.keys()].toSorted((a, b) => row[b]! - row[a]!));
  const found = await measure(
    { loss: 'cross-entropy', metrics: ['accuracy', 'top-k', 'f1', 'perplexity'], k: 2 },
    { shape: [classes], predictions, targets, count },
  );
  const surprise = rows.map(
    (row, index) => Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0)) - row[targets[index]!]!,
  );
  expect(found.accuracy).toBeCloseTo(mean(order.map(([first], index) => Number(first === targets[index]))), 6);
  expect(found['top-k']).toBeCloseTo(
    mean(order.map((list, index) => Number(list.slice(0, 2).includes(targets[index]!)))),
    6,
  );
  const pairs = [order.map(([first]) => [first!]), targets.map((target) => [target])] as const;
  expect(found.f1).toBeCloseTo(f1(...pairs, classes), 6);
  expect(found.perplexity).toBeCloseTo(Math.exp(mean(surprise)), 4);
});

test('of a sequence each position counts, but for the class to be ignored', async () => {
  const predictions = [3, 0, 0, 3, 3, 0, 3, 0];
  const examples = { shape: [2, 2], predictions, targets: [0, 1, 1, -100], count: 2 };
  const found = await measure(
    { loss: 'cross-entropy', metrics: ['accuracy', 'perplexity'], lossOptions: { ignoreIndex: -100 } },
    examples,
  );
  const [near, far] = [Math.log(1 + Math.exp(-3)), Math.log(1 + Math.exp(3))];
  expect(found.accuracy).toBeCloseTo(2 / 3, 6);
  expect(found.perplexity).toBeCloseTo(Math.exp((2 * near + far) / 3), 5);
});

test('yes and no are measured per output', async () => {
  const predictions = [2, -1, -3, 1, 0.5, 0.5];
  const targets = [1, 0, 1, 1, 0, 1];
  const found = await measure(
    { loss: 'bce-with-logits', metrics: ['accuracy', 'f1'] },
    { shape: [2], predictions, targets, count: 3 },
  );
  expect(found.accuracy).toBeCloseTo(4 / 6, 6);
  const said = [[0], [1], [0, 1]];
  const is = [[0], [0, 1], [1]];
  expect(found.f1).toBeCloseTo(f1(said, is, 2), 6);
});

test('numbers are measured by their distance', async () => {
  const examples = { shape: [2], predictions: [1, 2, 3, 4, 5, 6], targets: [0, 2, 5, 4, 5, 5], count: 3 };
  expect(await measure({ loss: 'mse', metrics: ['mae'] }, examples)).toEqual({ mae: expect.closeTo(4 / 6, 6) });
});

test('of nothing there is no value', () => {
  expect(
    new MetricSums({
      totals: [
        { metric: 'mae', name: 'distance', output: 'd', shape: [] },
        { metric: 'mae', name: 'count', output: 'c', shape: [] },
      ],
    }).values(),
  ).toEqual({ mae: Number.NaN });
});

test.each([
  [{ loss: 'mse', metrics: ['accuracy'] }, 'metrics', /accuracy is not for mse; use loss, mae/],
  [{ loss: 'triplet', metrics: ['accuracy'] }, 'metrics', /accuracy is not for triplet; use loss/],
] as [EvaluationPlan, string, RegExp][])(
  'a plan that cannot be measured is refused: %j',
  async (plan, key, message) => {
    const examples = { shape: [2], predictions: [1, 2], targets: [1, 2], count: 1 };
    await expect(measure(plan, examples)).rejects.toThrow(expect.objectContaining({ key }));
    await expect(measure(plan, examples)).rejects.toThrow(ConfigError);
    await expect(measure(plan, examples)).rejects.toThrow(message);
  },
);

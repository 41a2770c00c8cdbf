import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { seeded, splitModel, type ModelProto, type TrainingPlan } from '@commonweight/core';
import { beforeAll, expect, test } from 'vitest';
import { makeModel, makeNode, makeValue } from '../../../core/src/onnx/nodes.ts';
import { floatTensor } from '../../../core/src/onnx/tensor-data.ts';
import { loadDataset } from '../data/load-dataset.ts';
import { evaluate } from './evaluate.ts';
import { Evaluator } from './evaluator.ts';
import { openEngine } from './engines/open.ts';
import { LocalTrainer } from './train.ts';

const [INT64, INT32, FLOAT] = [7, 6, 1];
const random = seeded('several');
const weight = (name: string, ...shape: number[]) =>
  floatTensor(
    name,
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal() / 2),
  );

/** Mean of the embeddings that the mask leaves, beside two numbers; its length is left open. */
function model(): ModelProto {
  return makeModel({
    name: 'reviews',
    node: [
      makeNode('Gather', ['table', 'tokens'], ['rows']),
      makeNode('Cast', ['attention_mask'], ['real'], { to: FLOAT }),
      makeNode('Unsqueeze', ['real', 'last'], ['column']),
      makeNode('Mul', ['rows', 'column'], ['kept']),
      makeNode('ReduceSum', ['kept', 'first'], ['sum'], { keepdims: 0 }),
      makeNode('ReduceSum', ['real', 'first'], ['count'], { keepdims: 1 }),
      makeNode('Div', ['sum', 'count'], ['mean']),
      makeNode('Concat', ['mean', 'tabular'], ['x'], { axis: 1 }),
      makeNode('Gemm', ['x', 'head', 'bias'], ['logits']),
    ],
    initializer: [
      weight('table', 10, 6),
      weight('head', 8, 2),
      weight('bias', 2),
      { ...weight('last'), dims: [1n], dataType: INT64, rawData: new Uint8Array(), int64Data: [2n] },
      { ...weight('first'), dims: [1n], dataType: INT64, rawData: new Uint8Array(), int64Data: [1n] },
    ],
    input: [
      makeValue('tokens', ['batch', 'length'], INT64),
      makeValue('attention_mask', ['batch', 'length'], INT32),
      makeValue('tabular', ['batch', 2]),
    ],
    output: [makeValue('logits', ['batch', 2])],
  });
}

const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'adam', learningRate: 0.02 },
  epochs: 15,
  batchSize: 16,
  sizes: { length: 6 },
  evaluation: { metrics: ['accuracy'], holdOut: 0.2 },
};
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cw-several-'));
  // A text is liked where it has a 7, unless the second number says otherwise.
  const rows = Array.from({ length: 300 }, (_, id) => {
    const tokens = Array.from({ length: 1 + random.integer(6) }, () => random.integer(10));
    const price = random.normal();
    const label = Number(tokens.includes(7)) ^ Number(price > 1.5);
    return { id: `r${id}`, tokens, age: random.normal(), price, label };
  });
  await writeFile(join(folder, 'reviews.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
});

test('lists of tokens with their mask, and numbers beside them, are learnt from', async () => {
  const data = await loadDataset(`jsonl:${join(folder, 'reviews.jsonl')}?input.tabular=age,price`);
  const { graph, weights } = splitModel(model());
  const trainer = new LocalTrainer(data, await openEngine('ort-cpu', { threads: 1 }));
  const first = await trainer.train({ graph, weights, plan, seed: 1n });
  const second = await trainer.train({ graph, weights: first.weights, plan, seed: 2n });
  expect(second.metrics!['base_accuracy']).toBeGreaterThan(0.85);
  expect(second.metrics!['base_accuracy']).toBeGreaterThan(first.metrics!['base_accuracy']! + 0.2);
  // What is longer is filled up: the mask keeps the answers the same.
  const evaluator = new Evaluator(await openEngine('ort-cpu', { threads: 1 }));
  const measured = await evaluate(graph, second.weights, data, { plan, evaluator });
  const longer = await evaluate(graph, second.weights, data, { plan: { ...plan, sizes: { length: 9 } }, evaluator });
  expect(measured.correct! / measured.examples).toBeGreaterThan(0.85);
  expect(longer.lossSum).toBeCloseTo(measured.lossSum, 3);
  await evaluator.release();
});

test('an input that the data have no column for is named', async () => {
  const data = await loadDataset(`jsonl:${join(folder, 'reviews.jsonl')}?input.tabular=age,price&input.tokens=words`);
  const { graph, weights } = splitModel(model());
  const trainer = new LocalTrainer(data, await openEngine('ort-cpu', { threads: 1 }));
  await expect(trainer.train({ graph, weights, plan, seed: 1n })).rejects.toThrow('&input.tokens: ');
  await expect(trainer.train({ graph, weights, plan, seed: 1n })).rejects.toThrow(
    'has no column "words": it has id, tokens, age, price, label',
  );
});

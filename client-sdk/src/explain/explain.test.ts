import { floatTensor } from '../../../core/src/onnx/tensor-data.ts';
import { TensorProto_DataType } from '../../../core/src/onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../../../core/src/onnx/nodes.ts';
import { logistic, mlp, seeded, type ModelProto } from '@commonweight/core';
import { afterEach, expect, test } from 'vitest';
import { MemoryLink } from '../../../test/support/memory-link.ts';
import { connectOn, type Client } from '../client.ts';
import { ExplainError, InputError } from '../errors.ts';
import type { Model } from '../model/model.ts';
import { nodePlatform } from '../platform/node.ts';
import { permutationImportance } from './permutation-importance.ts';

const clients: Client[] = [];
afterEach(async () => void (await Promise.all(clients.splice(0).map((client) => client.close()))));

async function open(model: ModelProto, change: (weights: Float32Array) => void = () => {}): Promise<Model> {
  const link = new MemoryLink();
  link.publish(1, model, change);
  return await openOn(link);
}

async function openOn(link: MemoryLink): Promise<Model> {
  const client = await connectOn({ ...nodePlatform, openLink: () => link }, '', { readyTimeoutMs: 60_000 });
  clients.push(client);
  return await client.model('m');
}

const sumOf = (values: ArrayLike<number>): number => Array.from(values).reduce((sum, value) => sum + value, 0);

test('a linear model adds weight times input, for the largest answer of each example', async () => {
  // All weights and biases are 1, but those of the last class are 2.
  const model = await open(logistic({ inputs: 4, outputs: 3, seed: 1 }), (weights) => {
    weights.forEach((_, index) => (weights[index] = index % 3 === 2 ? 2 : 1));
  });
  const input = new Float32Array([1, 2, 3, 4, -1, -2, -3, -4]);
  const { outputs } = await model.predict({ input });
  const found = await model.explain({ input });
  expect(found).toMatchObject({ version: 1, method: 'integrated-gradients', steps: 32, output: 'logits' });
  found.rows.forEach(({ index, value, baselineValue, gap }, row) => {
    const answers = [...outputs['logits']!.data].slice(row * 3, row * 3 + 3).map(Number);
    expect(answers[index]).toBe(Math.max(...answers));
    expect(value).toBeCloseTo(answers[index]!, 5);
    expect(Math.abs(gap)).toBeLessThan(1e-4);
    expect(sumOf(found.attributions['input']!.data.slice(row * 4, row * 4 + 4) as Float32Array)).toBeCloseTo(
      value - baselineValue,
      4,
    );
  });
  expect(found.attributions['input']!.dims).toEqual([2, 4]);
  const first = await model.explain({ input: input.slice(0, 4) }, { index: 2, method: 'gradient-x-input' });
  expect(first.steps).toBe(1);
  const own = [...first.attributions['input']!.data].map(Number);
  expect(own.every((value, at) => Math.abs(value / input[at]! - own[0]!) < 1e-5)).toBe(true);
});

test('explanations are complete on a network, from a baseline of one’s own, and follow a newer version', async () => {
  const link = new MemoryLink();
  link.publish(1, mlp({ inputs: 6, hidden: [16], outputs: 4, seed: 1 }));
  const model = await openOn(link);
  const random = seeded(3);
  const draw = (): Float32Array => Float32Array.from({ length: 6 }, () => random.normal());
  const [input, other] = [draw(), draw()];
  const found = await model.explain({ input }, { steps: 128, baseline: { input: other } });
  const [row] = found.rows;
  expect(Math.abs(row!.gap)).toBeLessThan(0.02 * Math.max(1, Math.abs(row!.value - row!.baselineValue)));
  const { outputs } = await model.predict({ input: other });
  expect(row!.baselineValue).toBeCloseTo(Number(outputs['logits']!.data[row!.index]), 4);
  link.publish(2, mlp({ inputs: 6, hidden: [16], outputs: 4, seed: 2 }));
  await expect.poll(() => model.version, { timeout: 60_000 }).toBe(2);
  const next = await model.explain({ input }, { index: row!.index });
  expect(next.version).toBe(2);
  expect(next.attributions['input']!.data).not.toEqual(found.attributions['input']!.data);
});

test('tokens are explained one by one', async () => {
  const random = seeded(6);
  const floats = (name: string, shape: readonly [number, number]) =>
    floatTensor(
      name,
      shape,
      Float32Array.from({ length: shape[0] * shape[1] }, () => random.normal()),
    );
  const model = await open(
    makeModel({
      name: 'tokens',
      node: [
        makeNode('Gather', ['table', 'tokens'], ['vectors'], { axis: 0 }),
        makeNode('ReduceMean', ['vectors'], ['mean'], { axes: [1], keepdims: 0 }),
        makeNode('MatMul', ['mean', 'head'], ['y']),
      ],
      initializer: [floats('table', [9, 3]), floats('head', [3, 2])],
      input: [makeValue('tokens', ['batch', 'length'], TensorProto_DataType.INT64)],
      output: [makeValue('y', ['batch', 2])],
    }),
  );
  const tokens = (...values: number[]) => ({
    tokens: { data: BigInt64Array.from(values, BigInt), dims: [1, values.length] },
  });
  const { attributions, rows } = await model.explain(tokens(3, 0, 7), { steps: 2 });
  expect(attributions['tokens']!.dims).toEqual([1, 3]);
  expect(Number(attributions['tokens']!.data[1])).toBe(0);
  expect(Math.abs(rows[0]!.gap)).toBeLessThan(1e-5);
  // Another length is another graph.
  expect((await model.explain(tokens(1, 2, 3, 4), { steps: 2 })).attributions['tokens']!.dims).toEqual([1, 4]);
  await expect(model.explain(tokens(1), { baseline: 0.5 })).rejects.toThrow(
    "'tokens' holds whole numbers, and 0.5 is none",
  );
});

test('what cannot be explained says why', async () => {
  const model = await open(logistic({ inputs: 4, outputs: 3, seed: 1 }));
  const input = new Float32Array(4);
  const explained = (options: object) => model.explain({ input }, options);
  await expect(explained({ steps: 0 })).rejects.toThrow(InputError);
  await expect(explained({ index: 3 })).rejects.toThrow("output 'logits' has the values 0 to 2, and no 3");
  await expect(explained({ output: 'label' })).rejects.toThrow(ExplainError);
  await expect(explained({ baseline: { input: new Float32Array(8) } })).rejects.toThrow(
    "the baseline of 'input' has 8 values: give one example of 4",
  );
  await expect(model.explain({ input: new Float32Array(4 * 65) })).rejects.toThrow('64 are explained at once at most');
  const rounding = makeModel({
    name: 'rounding',
    node: [makeNode('Round', ['x'], ['steps'], {}, 'rounding'), makeNode('MatMul', ['steps', 'w'], ['y'])],
    initializer: [floatTensor('w', [2, 2], new Float32Array(4))],
    input: [makeValue('x', ['batch', 2])],
    output: [makeValue('y', ['batch', 2])],
  });
  const other = await open(rounding);
  await expect(other.explain({ x: new Float32Array(2) })).rejects.toThrow(/Round of node 'rounding' has no gradient/);
  // It goes on predicting.
  expect((await other.predict({ x: new Float32Array(2) })).version).toBe(1);
});

test('a column that the model ignores is worth nothing, and the one that decides is worth most', async () => {
  // Class 1 where the second of three numbers is positive.
  const model = await open(logistic({ inputs: 3, outputs: 2, seed: 1 }), (weights) => {
    weights.fill(0);
    weights[3] = 1;
  });
  const random = seeded(5);
  const inputs = Float32Array.from({ length: 300 * 3 }, () => random.normal());
  const { outputs } = await model.predict({ input: inputs });
  const logits = outputs['logits']!.data as Float32Array;
  const labels = Array.from({ length: 300 }, (_, row) => Number(logits[row * 2 + 1]! > logits[row * 2]!));
  const seen: number[] = [];
  const found = await permutationImportance(
    model,
    { inputs, labels },
    { batch: 64, onProgress: (done) => seen.push(done) },
  );
  expect(found.score).toBe(1);
  expect(found.columns[0]!.drop).toBeGreaterThan(0.3);
  expect(found.columns.slice(1).map(({ drop, spread }) => [drop, spread])).toEqual([
    [0, 0],
    [0, 0],
  ]);
  expect(seen).toEqual([1, 2, 3]);
  expect(await permutationImportance(model, { inputs, labels }, { batch: 7 })).toEqual(found);
  await expect(permutationImportance(model, { inputs, labels }, { columns: [3] })).rejects.toThrow(
    'columns 0 to 2, and no 3',
  );
});

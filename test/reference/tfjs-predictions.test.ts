/** What TensorFlow.js answers against what ONNX Runtime does: the models that PyTorch exported, our own, whole numbers, several outputs. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  cnn,
  contractOf,
  joinModel,
  mlp,
  quantizeModel,
  readModel,
  splitModel,
  writeModel,
  type ModelProto,
} from '@commonweight/core';
import { nodePlatform } from '@commonweight/client-sdk';
import { afterAll, describe, expect, test } from 'vitest';
import { makeModel, makeNode, makeValue } from '../../core/src/onnx/nodes.ts';
import { floatTensor, int64Tensor } from '../../core/src/onnx/tensor-data.ts';
import { madeUpInputs } from '../../client-sdk/src/runtime/example-inputs.ts';
import type { Feeds, TypedTensor } from '../../client-sdk/src/runtime/tensor.ts';
import { loadTfjs } from '../../edge-agent/src/training/engines/tfjs/load-tfjs.ts';
import { TfjsPrediction } from '../../edge-agent/src/training/engines/tfjs/tfjs-prediction.ts';

const { tf } = await loadTfjs();
const cpu = nodePlatform.engines[0].open({ threads: 1 });
afterAll(() => cpu.close());

const folder = join(import.meta.dirname, 'gradients');
const exported = readdirSync(folder)
  .filter((name) => name.endsWith('.json'))
  .map((file): [string, Uint8Array] => {
    const { model } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as { model: string };
    const { graph, weights } = splitModel(readModel(Buffer.from(model, 'base64')));
    // As the SDK puts a version together.
    return [file.slice(0, -5), joinModel(readModel(graph), weights)];
  });
const own: [string, Uint8Array][] = [
  ['our mlp', writeModel(mlp({ inputs: 12, hidden: [16, 8], outputs: 3, seed: 1 }))],
  ['our cnn', writeModel(cnn({ height: 12, width: 12, filters: [4, 6], kernel: 3, dense: 10, outputs: 3, seed: 1 }))],
];

const copyOf = (feeds: Feeds): Record<string, TypedTensor> => structuredClone(feeds) as Record<string, TypedTensor>;

/** Runs both and holds names, types, shapes and numbers together. */
async function compare(onnx: Uint8Array, feeds: Feeds, prediction: TfjsPrediction): Promise<void> {
  const session = await cpu.load(onnx);
  const wanted = await session.run(copyOf(feeds));
  await session.release();
  const answers = await prediction.run(copyOf(feeds));
  expect(Object.keys(answers)).toEqual(Object.keys(wanted));
  for (const [name, { type, dims, data }] of Object.entries(wanted)) {
    const answer = answers[name]!;
    expect([name, answer.type, answer.dims, answer.data.constructor.name]).toEqual([
      name,
      type,
      [...dims],
      data.constructor.name,
    ]);
    const numbers = Array.from(data as Float32Array, Number);
    const most = Math.max(1, ...numbers.map(Math.abs));
    numbers.forEach((value, at) =>
      expect(Math.abs(Number(answer.data[at]) - value) / most, `${name}[${at}]`).toBeLessThan(1e-4),
    );
  }
}

test.each([...exported, ...own])('%s answers as ONNX Runtime does, with any number of rows', async (_, onnx) => {
  const prediction = new TfjsPrediction(tf, onnx);
  const { inputs } = contractOf(readModel(onnx));
  for (const rows of [1, 3, 8, 1]) {
    await compare(onnx, madeUpInputs(inputs, { rows, seed: String(rows) }), prediction);
  }
  await prediction.release();
});

/** Whole numbers and truths come in, and with floats they go out. */
function tokens(): ModelProto {
  const numbers = Float32Array.from({ length: 10 * 4 }, (_, at) => Math.sin(at));
  return makeModel({
    name: 'tokens',
    node: [
      makeNode('Gather', ['table', 'ids'], ['rows']),
      makeNode('ReduceMean', ['rows'], ['mean'], { axes: [1], keepdims: 0 }),
      makeNode('Add', ['ids', 'one'], ['next']),
      makeNode('Greater', ['ids', 'one'], ['isLarge']),
      makeNode('And', ['isLarge', 'mask'], ['counts']),
      makeNode('Cast', ['counts'], ['small'], { to: 6 }),
      makeNode('Sub', ['ids', 'four'], ['signed']),
      makeNode('Div', ['signed', 'divisor'], ['half']),
      makeNode('Mod', ['signed', 'divisor'], ['left']),
      makeNode('Mod', ['signed', 'divisor'], ['rest'], { fmod: 1 }),
    ],
    initializer: [
      floatTensor('table', [10, 4], numbers),
      int64Tensor('one', [1]),
      int64Tensor('divisor', [-3]),
      int64Tensor('four', [4]),
    ],
    input: [makeValue('ids', ['n', 5], 7), makeValue('mask', ['n', 5], 9)],
    output: [
      makeValue('mean', ['n', 4]),
      makeValue('next', ['n', 5], 7),
      makeValue('counts', ['n', 5], 9),
      makeValue('small', ['n', 5], 6),
      ...['half', 'left', 'rest'].map((name) => makeValue(name, ['n', 5], 7)),
    ],
  });
}

test('whole numbers and truths are answered as such, beside floats', async () => {
  const onnx = writeModel(tokens());
  const prediction = new TfjsPrediction(tf, onnx);
  const ids = BigInt64Array.from({ length: 10 }, (_, at) => BigInt(at));
  const mask = Uint8Array.from({ length: 10 }, (_, at) => at % 2);
  const feeds: Feeds = {
    ids: { type: 'int64', data: ids, dims: [2, 5] },
    mask: { type: 'bool', data: mask, dims: [2, 5] },
  };
  await compare(onnx, feeds, prediction);
  // Whole numbers have 32 bits here: more would be another number.
  const large = {
    ...feeds,
    ids: { type: 'int64' as const, data: new BigInt64Array(10).fill(2n ** 40n), dims: [2, 5] },
  };
  await expect(prediction.run(large)).rejects.toThrow(`tfjs has no whole number ${2n ** 40n}, which 'ids' is given`);
  await prediction.release();
});

test('graphs of many shapes share the weights, only some are kept, and a released model leaves nothing', async () => {
  const before = tf.memory();
  const onnx = writeModel(mlp({ inputs: 64, hidden: [256], outputs: 8, seed: 1 }));
  const prediction = new TfjsPrediction(tf, onnx);
  const { inputs } = contractOf(readModel(onnx));
  const ask = (rows: number) => prediction.run(copyOf(madeUpInputs(inputs, { rows, seed: 'x' })));
  await ask(1);
  const once = tf.memory();
  for (let rows = 1; rows <= 100; rows++) await ask(rows);
  const many = tf.memory();
  // What a graph holds for itself are a few numbers.
  expect(many.numBytes - once.numBytes).toBeLessThan(32 * 1024);
  for (let rows = 101; rows <= 200; rows++) await ask(rows);
  expect(tf.memory().numTensors).toBe(many.numTensors);
  await prediction.release();
  expect(tf.memory().numTensors).toBe(before.numTensors);
});

describe('what it cannot compute is refused when it is loaded, with the reason', () => {
  const float = mlp({ inputs: 64, hidden: [64], outputs: 4, seed: 1 });
  const withNode = (...node: Parameters<typeof makeNode>): Uint8Array =>
    writeModel(
      makeModel({
        name: 'one',
        node: [makeNode(...node)],
        initializer: [],
        input: [makeValue('x', ['n', 3, 3])],
        output: [makeValue('y', ['n', 3, 3])],
      }),
    );

  test.each<[string, Uint8Array, RegExp]>([
    [
      'int8',
      writeModel(quantizeModel(float, 'dynamic-int8').model),
      /^tfjs computes float32 alone, .*; ort-cpu runs it$/,
    ],
    ['blocks', writeModel(quantizeModel(float, 'int8-blocks').model), /^tfjs computes float32 alone, /],
    [
      'fp16',
      writeModel(quantizeModel(float, 'fp16').model),
      /^tfjs has no numbers of element type 10 \('.*'\); ort-cpu has$/,
    ],
    [
      'an operator nobody has',
      withNode('Det', ['x'], ['y']),
      /^tfjs cannot compute the model: no shape rule for operator Det/,
    ],
    ['an operator that it lacks', withNode('Hardmax', ['x'], ['y']), /^tfjs .*Hardmax/],
    [
      'an attribute that it lacks',
      withNode('Cast', ['x'], ['y'], { to: 11 }),
      /^tfjs does not compute Cast to the element type 11 \(node 'y'\); ort-cpu does$/,
    ],
  ])('%s', (_, onnx, reason) => {
    const { numTensors } = tf.memory();
    expect(() => new TfjsPrediction(tf, onnx)).toThrow(reason);
    expect(tf.memory().numTensors).toBe(numTensors);
  });
});

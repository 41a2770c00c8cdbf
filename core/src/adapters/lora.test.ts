import * as fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { transformer } from '../../../test/support/transformer.ts';
import { ConfigError } from '../errors.ts';
import { OnnxError } from '../onnx/errors.ts';
import { readModel, writeModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import type { Attributes } from '../onnx/nodes.ts';
import { joinModel, splitModel } from '../onnx/parameters.ts';
import { dimsOf, floatTensor } from '../onnx/tensor-data.ts';
import { seeded } from '../random/stream.ts';
import { sizeOf } from '../tensor/shape.ts';
import { buildTrainingGraph } from '../training/training-graph.ts';
import { gridFor } from '../weights/grid.ts';
import { encodings } from '../weights/encoding.ts';
import { weightsToBytes } from '../weights/bytes.ts';
import { addLora, mergeLora } from './lora.ts';
import { parseLora } from './lora-options.ts';
import { fitsAny } from './name-pattern.ts';

const options = { rank: 2, alpha: 4, targets: ['*'] };

async function outputOf(model: ModelProto, shape: readonly number[], seed = 5): Promise<Float32Array> {
  const random = seeded(seed);
  const x = Float32Array.from({ length: sizeOf(shape) }, () => random.normal());
  const session = await ort.InferenceSession.create(writeModel(model), { logSeverityLevel: 3 });
  const name = session.inputNames[0]!;
  const results = await session.run({ [name]: new ort.Tensor('float32', x, shape) });
  await session.release();
  return results[session.outputNames[0]!]!.data as Float32Array;
}

/** The model as it might come back from training: other numbers in what is trained. */
function trained(model: ModelProto, seed: number): ModelProto {
  const { graph, weights } = splitModel(model);
  const random = seeded(seed);
  return readModel(
    joinModel(
      readModel(graph),
      weights.map((value) => value + random.normal() / 4),
    ),
  );
}

function layer(
  operator: string,
  weight: number[],
  input: number[],
  attributes: Attributes = {},
  turn = false,
): ModelProto {
  const random = seeded(1);
  const values = Float32Array.from({ length: sizeOf(weight) }, () => random.normal());
  const nodes: NodeProto[] = [makeNode(operator, ['x', turn ? 't' : 'w'], ['y'], attributes, 'layer')];
  if (turn) nodes.unshift(makeNode('Transpose', ['w'], ['t'], { perm: [1, 0] }));
  return makeModel({
    name: 'one',
    node: nodes,
    initializer: [floatTensor('w', weight, values)],
    input: [makeValue('x', input)],
    output: [
      makeValue(
        'y',
        input.map((_, axis) => `d${axis}`),
      ),
    ],
  });
}

const layers: Record<string, [ModelProto, number[]]> = {
  'a MatMul over rows': [layer('MatMul', [5, 3], [2, 4, 5]), [2, 4, 5]],
  'a MatMul by a weight that is turned over': [layer('MatMul', [3, 5], [2, 5], {}, true), [2, 5]],
  'a Gemm': [layer('Gemm', [5, 3], [2, 5]), [2, 5]],
  'a Gemm with factor and the weight turned over': [
    layer('Gemm', [3, 5], [2, 5], { transB: 1, alpha: { float: 0.5 } }),
    [2, 5],
  ],
  'a Conv': [layer('Conv', [4, 3, 3, 3], [2, 3, 6, 6], { pads: [1, 1, 1, 1], strides: [2, 2] }), [2, 3, 6, 6]],
  'a Conv in groups': [layer('Conv', [6, 2, 3], [2, 4, 7], { group: 2, kernel_shape: [3] }), [2, 4, 7]],
  'a depthwise Conv': [layer('Conv', [4, 1, 3, 3], [1, 4, 5, 5], { group: 4, dilations: [2, 2] }), [1, 4, 5, 5]],
};

test.each(Object.entries(layers))(
  '%s: adapters begin as no change, and merged they are the same function',
  async (_, [model, shape]) => {
    const adapted = addLora(model, options);
    expect(await outputOf(adapted, shape)).toEqual(await outputOf(model, shape));
    const moved = trained(adapted, 3);
    const merged = mergeLora(moved);
    const [apart, together] = [await outputOf(moved, shape), await outputOf(merged, shape)];
    expect(apart).not.toEqual(await outputOf(model, shape));
    const size = Math.max(1, ...apart.map(Math.abs));
    apart.forEach((value, index) => expect(Math.abs(value - together[index]!) / size).toBeLessThan(1e-6));
    // What is left has the base's nodes and tensors, and nothing is frozen in it.
    const names = (one: ModelProto): string[] => [
      ...one.graph!.node.flatMap(({ output }) => output),
      ...one.graph!.initializer.map(({ name }) => name),
    ];
    expect(names(merged)).toEqual(names(model));
    expect(splitModel(merged).layout).toEqual(splitModel(model).layout);
  },
);

test('of a transformer less than 2 % is shipped, and the base stays as it is', async () => {
  const shape = [2, 4, 16];
  const model = transformer({ tokens: 4, tokenSize: 16, width: 128, heads: 4, layers: 2, seed: 1 });
  const adapted = addLora(model, { rank: 4, alpha: 8, targets: ['*.q.weight', '*.v.weight'] });
  const [full, small] = [splitModel(model), splitModel(adapted)];
  expect(small.layout.parameters.map(({ name, shape: size }) => [name, size])).toEqual(
    ['layer0.q', 'layer0.v', 'layer1.q', 'layer1.v'].flatMap((name) => [
      [`${name}.weight/lora.down`, [128, 4]],
      [`${name}.weight/lora.up`, [4, 128]],
    ]),
  );
  expect(weightsToBytes(small.weights).length / weightsToBytes(full.weights).length).toBeLessThan(0.02);
  for (const { encode } of Object.values(encodings)) {
    const bytes = (weights: Float32Array): number =>
      encode(weights, gridFor({ valueMaxExponent: 4, weightMax: 1, cohortMax: 1 }), seeded(1), 0.1).length;
    expect(bytes(small.weights) / bytes(full.weights)).toBeLessThan(0.02);
  }
  const moved = trained(adapted, 9);
  const before = new Map(model.graph!.initializer.map((tensor) => [tensor.name, tensor.rawData]));
  for (const { name, rawData } of moved.graph!.initializer)
    if (before.has(name)) expect(rawData).toEqual(before.get(name));
  const [apart, together] = [await outputOf(moved, shape), await outputOf(mergeLora(moved), shape)];
  const size = Math.hypot(...apart);
  expect(Math.hypot(...apart.map((value, index) => value - together[index]!)) / size).toBeLessThan(1e-6);
});

test('a step trains the adapters alone', async () => {
  const model = transformer({ tokens: 2, tokenSize: 3, width: 8, heads: 2, layers: 1, seed: 1 });
  const { graph, weights, layout } = splitModel(addLora(model, { rank: 2, alpha: 2, targets: ['layer0.*'] }));
  const training = buildTrainingGraph(readModel(graph), {
    loss: 'mse',
    optimizer: { name: 'adam', learningRate: 0.02 },
    epochs: 1,
    batchSize: 2,
  });
  expect(training.parameters.map(({ name }) => name)).toEqual(layout.parameters.map(({ name }) => name));
  const session = await ort.InferenceSession.create(training.model, { logSeverityLevel: 3 });
  const tensor = (shape: readonly number[], value: (index: number) => number): ort.Tensor =>
    new ort.Tensor(
      'float32',
      Float32Array.from({ length: sizeOf(shape) }, (_, index) => value(index)),
      shape,
    );
  const feeds: Record<string, ort.Tensor> = {
    [training.data[0]!.name]: tensor(training.data[0]!.shape, Math.sin),
    [training.target.name]: tensor(training.target.shape, Math.cos),
    [training.sampleWeights]: tensor([2], () => 1),
  };
  for (const { name, offset, shape } of layout.parameters)
    feeds[name] = tensor(shape, (index) => weights[offset + index]!);
  for (const { input, shape } of training.state) feeds[input] = tensor(shape, () => 0);
  const losses: number[] = [];
  for (let step = 0; step < 40; step++) {
    const results = await session.run(feeds);
    losses.push(Number(results[training.loss]!.data[0]));
    for (const { input, output } of [...training.parameters, ...training.state]) feeds[input] = results[output]!;
  }
  expect(losses.at(-1)!).toBeLessThan(losses[0]! * 0.8);
  await session.release();
});

test('what `train` names is trained besides', () => {
  const model = transformer({ tokens: 2, tokenSize: 3, width: 4, heads: 2, layers: 1, seed: 1 });
  const adapted = addLora(model, { ...options, targets: ['layer0.q.*'], train: ['last.*'] });
  const names = splitModel(adapted).layout.parameters.map(({ name }) => name);
  expect(names.toSorted()).toEqual(['last.gain', 'last.shift', 'layer0.q.weight/lora.down', 'layer0.q.weight/lora.up']);
});

test('the same seed begins with the same adapters', () => {
  const model = layer('Gemm', [5, 3], [2, 5]);
  const down = (seed: number): Uint8Array =>
    addLora(model, { ...options, seed }).graph!.initializer.find(({ name }) => name === 'w/lora.down')!.rawData;
  expect(down(1)).toEqual(down(1));
  expect(down(1)).not.toEqual(down(2));
  expect(dimsOf(addLora(model, options).graph!.initializer[1]!)).toEqual([5, 2]);
});

test('what cannot be adapted is refused', () => {
  const model = layer('Gemm', [5, 3], [2, 5]);
  expect(() => addLora(model, { ...options, targets: ['attention.*'] })).toThrow(
    /no layer fits attention\.\*; .*such as w/,
  );
  expect(() => addLora(addLora(model, options), options)).toThrow(/merge them first/);
  expect(() => mergeLora(model)).toThrow(OnnxError);
  expect(() => mergeLora(readModel(splitModel(addLora(model, options)).graph))).toThrow(/has no values/);
  const twice = makeModel({
    name: 'twice',
    node: [makeNode('MatMul', ['x', 'w'], ['h']), makeNode('MatMul', ['h', 'w'], ['y'])],
    initializer: [floatTensor('w', [2, 2], new Float32Array(4))],
    input: [makeValue('x', [1, 2])],
    output: [makeValue('y', [1, 2])],
  });
  expect(() => addLora(twice, options)).toThrow(/read more than once/);
});

test.each([
  ['lora', null],
  ['lora.rank', { targets: ['*'], rank: 0 }],
  ['lora.alpha', { targets: ['*'], rank: 1, alpha: -1 }],
  ['lora.targets', { rank: 1, targets: [] }],
  ['lora.train', { rank: 1, targets: ['*'], train: 'head' }],
  ['lora.seed', { rank: 1, targets: ['*'], seed: 0.5 }],
  ['lora.dropout', { rank: 1, targets: ['*'], dropout: 0.1 }],
])('a fault in %s is named', (key, value) => {
  expect(() => parseLora(value)).toThrow(expect.objectContaining({ key }));
  expect(() => parseLora(value)).toThrow(ConfigError);
});

test('alpha is the rank where nobody says otherwise', () => {
  expect(parseLora({ rank: 3, targets: ['*'] })).toEqual({ rank: 3, alpha: 3, targets: ['*'] });
});

test('a name fits a pattern as the regular expression of it does', () => {
  const letters = fc.array(fc.constantFrom('a', 'b', '.', '*'), { maxLength: 7 }).map((list) => list.join(''));
  fc.assert(
    fc.property(letters, letters, (pattern, text) => {
      const name = text.replaceAll('*', 'a');
      const parts = pattern.split('*').map((part) => part.replaceAll('.', '\\.'));
      expect(fitsAny(name, [pattern])).toBe(new RegExp(`^${parts.join('.*')}$`).test(name));
    }),
    { numRuns: 2000 },
  );
});

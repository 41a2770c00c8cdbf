import { expect, test } from 'vitest';
import { mlp } from '../models/mlp.ts';
import { checkTrainable } from '../training/trainability.ts';
import { contractOf } from './contract.ts';
import { OnnxError } from './errors.ts';
import { readModel, writeModel } from './file.ts';
import { makeModel, makeNode, makeValue } from './nodes.ts';
import { joinModel, layoutOf, splitModel } from './parameters.ts';
import { floatTensor, int64Tensor } from './tensor-data.ts';

const model = mlp({ inputs: 4, hidden: [3], outputs: 2, seed: 5 });

test('a model split and joined is the model again, byte for byte', () => {
  const { graph, weights } = splitModel(model);
  expect(joinModel(readModel(graph), weights)).toEqual(writeModel(model));
});

test('the layout lists every weight once, one behind the other', () => {
  expect(splitModel(model).layout).toEqual({
    length: 23,
    parameters: [
      { name: 'hidden1.weight', shape: [4, 3], offset: 0, length: 12 },
      { name: 'hidden1.bias', shape: [3], offset: 12, length: 3 },
      { name: 'output.weight', shape: [3, 2], offset: 15, length: 6 },
      { name: 'output.bias', shape: [2], offset: 21, length: 2 },
    ],
  });
});

test('the graph of a split model has the same layout and no numbers', () => {
  const { graph, layout } = splitModel(model);
  expect(layoutOf(readModel(graph))).toEqual(layout);
  expect(graph.length).toBeLessThan(writeModel(model).length - layout.length * 4);
});

test('scalars, integers and tensors nobody reads stay in the graph', () => {
  const mixed = makeModel({
    name: 'mixed',
    node: [makeNode('Mul', ['input', 'scale'], ['scaled']), makeNode('Reshape', ['scaled', 'shape'], ['output'])],
    initializer: [
      floatTensor('scale', [], Float32Array.of(2)),
      int64Tensor('shape', [-1]),
      floatTensor('unused', [2], Float32Array.of(1, 2)),
    ],
    input: [makeValue('input', ['batch', 4])],
    output: [makeValue('output', ['n'])],
  });
  expect(splitModel(mixed).layout.length).toBe(0);
});

test('the contract names inputs and outputs with -1 for the batch', () => {
  expect(contractOf(model)).toEqual({
    inputs: [{ name: 'input', dtype: 'float', dims: [-1, 4] }],
    outputs: [{ name: 'logits', dtype: 'float', dims: [-1, 2] }],
  });
});

test('the same seed makes the same model and another seed another', () => {
  const make = (seed: number): Uint8Array => writeModel(mlp({ inputs: 4, hidden: [3], outputs: 2, seed }));
  expect(make(5)).toEqual(writeModel(model));
  expect(make(6)).not.toEqual(make(5));
});

test('bytes that are not a whole model are refused with a cause and a mend', () => {
  const bytes = writeModel(model);
  for (const wrong of [new Uint8Array(), Uint8Array.of(1, 2, 3), bytes.subarray(0, bytes.length >> 1)]) {
    expect(() => readModel(wrong)).toThrow(OnnxError);
  }
});

test('a tensor with fewer numbers than its shape needs is refused by name', () => {
  const short = mlp({ inputs: 4, hidden: [], outputs: 2, seed: 5 });
  const [weight] = short.graph!.initializer;
  weight!.rawData = weight!.rawData.subarray(4);
  expect(() => readModel(writeModel(short))).toThrow(/'output.weight' has 7 values/);
});

test('data in another file is refused', () => {
  const outside = mlp({ inputs: 4, hidden: [], outputs: 2, seed: 5 });
  outside.graph!.initializer[0]!.dataLocation = 1;
  expect(() => readModel(writeModel(outside))).toThrow(/another file/);
});

test('weights of another model are refused', () => {
  expect(() => joinModel(readModel(splitModel(model).graph), new Float32Array(22))).toThrow(/23 weights and 22/);
});

test('each node gets a verdict before anything is trained', () => {
  const mixed = makeModel({
    name: 'mixed',
    node: [
      makeNode('Abs', ['input'], ['a']),
      makeNode('MatMul', ['a', 'w'], ['b']),
      makeNode('Sign', ['b'], ['output']),
    ],
    initializer: [floatTensor('w', [4, 2], new Float32Array(8))],
    input: [makeValue('input', ['batch', 4])],
    output: [makeValue('output', ['batch', 2])],
  });
  expect(checkTrainable(mixed).map(({ operator, verdict }) => [operator, verdict])).toEqual([
    ['Abs', 'constant'],
    ['MatMul', 'trainable'],
    ['Sign', 'not differentiable'],
  ]);
});

import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { ConfigError } from '../errors.ts';
import { cnn } from '../models/cnn.ts';
import { mlp } from '../models/mlp.ts';
import { contractOf } from '../onnx/contract.ts';
import { readModel, writeModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { splitModel } from '../onnx/parameters.ts';
import { dimsOf, floatTensor, floatValues } from '../onnx/tensor-data.ts';
import { sizeOf } from '../tensor/shape.ts';
import { addLora, mergeLora } from './lora.ts';
import { replaceHead } from './head.ts';

const ended = (...nodes: NodeProto[]): ModelProto =>
  makeModel({
    name: 'm',
    node: nodes,
    initializer: [floatTensor('w', [3, 3], new Float32Array(9)), floatTensor('b', [3], Float32Array.of(1, 2, 3))],
    input: [makeValue('x', ['batch', 3])],
    output: [makeValue('y', ['batch', 3])],
  });

const models: Record<string, [ModelProto, number[]]> = {
  'an MLP': [mlp({ inputs: 5, hidden: [8], outputs: 3, seed: 1 }), [2, 5]],
  'a CNN': [cnn({ height: 8, width: 8, filters: [3, 4], kernel: 3, dense: 12, outputs: 3, seed: 3 }), [2, 1, 8, 8]],
  'a MatMul, a bias and a Softmax': [
    ended(makeNode('MatMul', ['x', 'w'], ['h']), makeNode('Add', ['b', 'h'], ['z']), makeNode('Softmax', ['z'], ['y'])),
    [2, 3],
  ],
  'a weight that is turned over': [
    ended(makeNode('Transpose', ['w'], ['t'], { perm: [1, 0] }), makeNode('MatMul', ['x', 't'], ['y'])),
    [2, 3],
  ],
};

test.each(Object.entries(models))('%s answers with as many classes as are asked for', async (_, [model, shape]) => {
  const changed = replaceHead(model, { classes: 7, seed: 2 });
  const session = await ort.InferenceSession.create(writeModel(changed), { logSeverityLevel: 3 });
  const x = new ort.Tensor('float32', new Float32Array(sizeOf(shape)).fill(0.5), shape);
  const results = await session.run({ [session.inputNames[0]!]: x });
  expect(results[session.outputNames[0]!]!.dims).toEqual([2, 7]);
  await session.release();
  expect(contractOf(changed).outputs[0]!.dims).toEqual([-1, 7]);
  const [was, is] = [model, changed].map(({ graph }) => graph!.initializer);
  const renewed = is!.filter((tensor, index) => tensor !== was![index]);
  for (const tensor of renewed) expect(dimsOf(tensor)).toContain(7);
  expect(renewed.length).toBeLessThanOrEqual(2);
  expect(renewed.flatMap((tensor) => [...floatValues(tensor)]).every((value) => Math.abs(value) <= 1)).toBe(true);
});

test('with the rest frozen the new head alone is trained and shipped', () => {
  const model = mlp({ inputs: 5, hidden: [8], outputs: 3, seed: 1 });
  const names = (one: ModelProto): string[] => splitModel(one).layout.parameters.map(({ name }) => name);
  expect(names(replaceHead(model, { classes: 4, train: 'head' }))).toEqual(['output.weight', 'output.bias']);
  expect(names(replaceHead(model, { classes: 4 }))).toEqual(names(model));
});

test('a new head and adapters go together', () => {
  const model = replaceHead(mlp({ inputs: 5, hidden: [8], outputs: 3, seed: 1 }), { classes: 4 });
  const adapted = addLora(model, { rank: 2, alpha: 2, targets: ['hidden*'], train: ['output.*'] });
  const names = splitModel(adapted).layout.parameters.map(({ name }) => name);
  expect(names.toSorted()).toEqual([
    'hidden1.weight/lora.down',
    'hidden1.weight/lora.up',
    'output.bias',
    'output.weight',
  ]);
  expect(writeModel(mergeLora(readModel(writeModel(adapted)))).length).toBeLessThan(writeModel(adapted).length);
});

test('a model without a dense head is refused by what it ends in', () => {
  expect(() => replaceHead(ended(makeNode('Relu', ['x'], ['y'])), { classes: 2 })).toThrow(
    /comes from Relu of node 'y'/,
  );
  const tied = ended(makeNode('MatMul', ['x', 'w'], ['h']), makeNode('MatMul', ['h', 'w'], ['y']));
  expect(() => replaceHead(tied, { classes: 2 })).toThrow(/'w' is read elsewhere/);
  expect(() => replaceHead(tied, { classes: 0 })).toThrow(ConfigError);
});

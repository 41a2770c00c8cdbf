import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { opsetOf, writeModel } from '../onnx/file.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import type { Attributes } from '../onnx/nodes.ts';
import { floatTensor } from '../onnx/tensor-data.ts';
import { prepare } from './prepare.ts';

const input = Float32Array.from({ length: 24 }, (_, index) => Math.sin(index * 1.3) * 3);

function modelOf(node: NodeProto[], opset: number, initializer: TensorProto[] = []): ModelProto {
  const graph = {
    name: 'old',
    node,
    initializer,
    input: [makeValue('x', [2, 3, 4, 1])],
    output: [makeValue('y', ['a', 'b', 'c', 'd'].slice(0, 4))],
  };
  const model = makeModel(graph);
  // Of any rank: only the numbers are compared.
  model.graph!.output[0]!.type!.value = {
    case: 'tensorType',
    value: { ...makeValue('y', []).type!.value.value!, shape: undefined } as never,
  };
  return { ...model, opsetImport: [{ ...model.opsetImport[0]!, version: BigInt(opset) }] };
}

const prepared = (model: ModelProto): ModelProto => prepare(model).model;

async function run(model: ModelProto): Promise<{ dims: readonly number[]; values: number[] }> {
  const session = await ort.InferenceSession.create(writeModel(model), { logSeverityLevel: 3 });
  const { y } = await session.run({ x: new ort.Tensor('float32', input, [2, 3, 4, 1]) });
  await session.release();
  return { dims: y!.dims, values: Array.from(y!.data as Float32Array) };
}

const one = (opType: string, attributes: Attributes, inputs: string[] = ['x']): NodeProto[] => [
  makeNode(opType, inputs, ['y'], attributes),
];
const floats = (name: string, ...values: number[]): TensorProto =>
  floatTensor(name, [values.length], Float32Array.from(values));

describe('a model of an old operator set computes the same when it is raised to 13', () => {
  test.each<[string, number, NodeProto[], TensorProto[]?]>([
    ['Softmax over all but the first axis', 11, one('Softmax', { axis: 1 })],
    ['Softmax with the old default', 9, one('Softmax', {})],
    ['Softmax over two axes', 11, one('Softmax', { axis: 2 })],
    ['LogSoftmax', 11, one('LogSoftmax', { axis: 0 })],
    ['Clip', 9, one('Clip', { min: { float: -1 }, max: { float: 0.5 } })],
    ['Clip on one side', 9, one('Clip', { max: { float: 0.5 } })],
    ['Pad', 9, one('Pad', { pads: [0, 1, 0, 0, 0, 0, 2, 0], value: { float: 7 } })],
    ['Slice', 9, one('Slice', { starts: [1], ends: [3], axes: [2] })],
    ['Slice without axes', 9, one('Slice', { starts: [1, 0], ends: [2, 2] })],
    ['Squeeze', 11, one('Squeeze', { axes: [3] })],
    ['Squeeze of whatever is one', 11, one('Squeeze', {})],
    ['Unsqueeze', 11, one('Unsqueeze', { axes: [0] })],
    ['ReduceSum', 11, one('ReduceSum', { axes: [1], keepdims: 0 })],
    ['Dropout', 9, one('Dropout', { ratio: { float: 0.5 } })],
    ['Split', 11, [makeNode('Split', ['x'], ['y', 'rest'], { axis: 2, split: [1, 3] })]],
    [
      'BatchNormalization',
      8,
      one('BatchNormalization', {}, ['x', 'gain', 'shift', 'mean', 'variance']),
      [floats('gain', 1, 2, 3), floats('shift', 0, 1, 0), floats('mean', 1, 0, -1), floats('variance', 1, 2, 4)],
    ],
  ])('%s', async (_, opset, nodes, initializer = []) => {
    const model = modelOf(nodes, opset, initializer);
    const { model: raised } = prepare(model);
    expect(opsetOf(raised)).toBe(13);
    expect(await run(raised)).toEqual(await run(model));
  });
});

test.each([
  ['an operator set from before there was batch size', modelOf(one('Relu', {}), 6), 'operator set 6 is too old'],
  [
    'a node whose old form cannot be told',
    modelOf(one('Upsample', {}, ['x', 's']), 9, [floats('s', 1, 1, 2, 1)]),
    "'y' (Upsample)",
  ],
])('%s is refused', (_, model, words) => {
  expect(() => prepare(model)).toThrow(words);
});

test('constants become initializers, and what no output needs is left out', () => {
  const constant = makeNode('Constant', [], ['two'], { value_float: { float: 2 } });
  const node = [constant, ...one('Mul', {}, ['x', 'two']), makeNode('Neg', ['x'], ['unread'])];
  const { graph } = prepared(modelOf(node, 13, [floats('unused', 1)]));
  expect(graph!.node.map(({ opType }) => opType)).toEqual(['Mul']);
  expect(graph!.initializer.map(({ name, dataType }) => [name, dataType])).toEqual([
    ['two', TensorProto_DataType.FLOAT],
  ]);
});

test('a pass-through whose value is an output stays', async () => {
  const model = modelOf([makeNode('Identity', ['x'], ['same']), makeNode('Identity', ['same'], ['y'])], 13);
  const whole = prepared(model);
  expect(whole.graph!.node.length).toBe(1);
  expect(await run(whole)).toEqual(await run(model));
});

import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { graphOf, writeModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { dimsOf, floatTensor, int64Tensor, integerValues } from '../onnx/tensor-data.ts';
import { FOLDED_BYTES_MAX } from './fold-constants.ts';
import { prepare } from './prepare.ts';
import { quantizeModel } from './quantize.ts';

const wave = (length: number): Float32Array => Float32Array.from({ length }, (_, index) => Math.sin(index * 1.3));
const scalar = (name: string, value: number): TensorProto => int64Tensor(name, [value], []);

/** A model of `x` with a batch of any size; the rank of what it makes is left open. */
function modelOf(dims: (number | string)[], node: NodeProto[], initializer: TensorProto[]): ModelProto {
  const y = makeValue('y', []);
  const tensor = y.type!.value.value!;
  const output = [
    { ...y, type: { ...y.type!, value: { case: 'tensorType' as const, value: { ...tensor, shape: undefined } } } },
  ];
  return makeModel({ name: 'm', node, initializer, input: [makeValue('x', dims)], output: output as never });
}

async function run(model: ModelProto, dims: number[]): Promise<{ dims: readonly number[]; values: number[] }> {
  const session = await ort.InferenceSession.create(writeModel(model), {
    graphOptimizationLevel: 'disabled',
    logSeverityLevel: 3,
  });
  const length = dims.reduce((product, size) => product * size, 1);
  const { y } = await session.run({ x: new ort.Tensor('float32', wave(length), dims) });
  await session.release();
  return { dims: y!.dims, values: Array.from(y!.data as Float32Array, Number) };
}

const operatorsOf = (model: ModelProto): string[] => graphOf(model).node.map(({ opType }) => opType);

/** Holds the outputs against those of the whole model, for batches of several sizes. */
async function expectSameOutputs(model: ModelProto, prepared: ModelProto, ...rows: number[][]): Promise<void> {
  for (const dims of rows) expect(await run(prepared, dims)).toEqual(await run(model, dims));
}

test('what exporters write around a view is folded as far as the batch allows', async () => {
  // y = x.view(x.size(0), x.size(1) // 4, 4): sizes of a Concat, of which one is open.
  const node = [
    makeNode('Shape', ['x'], ['shape']),
    makeNode('Gather', ['shape', 'zero'], ['batch'], { axis: 0 }),
    makeNode('Gather', ['shape', 'one'], ['width'], { axis: 0 }),
    makeNode('Div', ['width', 'four'], ['groups']),
    makeNode('Unsqueeze', ['batch', 'axis'], ['b']),
    makeNode('Unsqueeze', ['groups', 'axis'], ['g']),
    makeNode('Unsqueeze', ['four', 'axis'], ['f']),
    makeNode('Concat', ['b', 'g', 'f'], ['sizes'], { axis: 0 }),
    makeNode('Reshape', ['x', 'sizes'], ['viewed']),
    // The view's own sizes follow from it again.
    makeNode('Shape', ['viewed'], ['again']),
    makeNode('Slice', ['again', 'axis1', 'axis3'], ['tail']),
    makeNode('ConstantOfShape', ['tail'], ['zeros'], {}),
    makeNode('Add', ['viewed', 'zeros'], ['y']),
  ];
  const constants = [
    ...[scalar('zero', 0), scalar('one', 1), scalar('four', 4)],
    ...[int64Tensor('axis', [0]), int64Tensor('axis1', [1]), int64Tensor('axis3', [3])],
  ];
  const model = modelOf(['batch', 8], node, constants);
  const { model: prepared, folded } = prepare(model);
  expect(operatorsOf(prepared)).toEqual(['Shape', 'Gather', 'Unsqueeze', 'Concat', 'Reshape', 'Add']);
  expect(folded).toBe(6);
  await expectSameOutputs(model, prepared, [1, 8], [3, 8]);
});

test('a mask that is computed from a fixed length becomes a constant', async () => {
  const node = [
    makeNode('Shape', ['x'], ['shape'], { start: 1, end: 2 }),
    makeNode('Squeeze', ['shape', 'axis'], ['length']),
    makeNode('Range', ['zero', 'length', 'one'], ['places']),
    makeNode('Unsqueeze', ['places', 'axis1'], ['column']),
    makeNode('Greater', ['places', 'column'], ['isAhead']),
    makeNode('Where', ['isAhead', 'never', 'nothing'], ['mask']),
    makeNode('Add', ['x', 'mask'], ['y']),
  ];
  const constants = [
    ...[scalar('zero', 0), scalar('one', 1), int64Tensor('axis', [0]), int64Tensor('axis1', [1])],
    ...[floatTensor('never', [], Float32Array.of(-1e9)), floatTensor('nothing', [], Float32Array.of(0))],
  ];
  const model = modelOf(['batch', 5, 5], node, constants);
  const { model: prepared, folded } = prepare(model);
  expect([operatorsOf(prepared), folded]).toEqual([['Add'], 6]);
  expect(graphOf(prepared).initializer.map(({ name }) => name)).toEqual(['mask']);
  await expectSameOutputs(model, prepared, [2, 5, 5]);
});

test('a weight that is transposed or cast before it is used is a constant weight to the quantizer', async () => {
  const constants = [floatTensor('w', [6, 4], wave(24))];
  const node = [
    makeNode('Cast', ['w'], ['w32'], { to: TensorProto_DataType.FLOAT }),
    makeNode('Transpose', ['w32'], ['turned'], { perm: [1, 0] }),
    makeNode('MatMul', ['x', 'turned'], ['y']),
  ];
  const model = modelOf(['batch', 4], node, constants);
  const { model: prepared, folded } = prepare(model);
  expect([operatorsOf(prepared), folded]).toEqual([['MatMul'], 2]);
  const { layers, folded: reported } = quantizeModel(model, 'dynamic-int8');
  expect([layers.map(({ operator }) => operator), reported]).toEqual([['MatMul'], 2]);
  await expectSameOutputs(model, prepared, [3, 4]);
});

test('what depends on the batch stays, also where two batches would agree', async () => {
  // The number of rows, up to two: 1 for one row, and 2 for all else.
  const node = [
    makeNode('Slice', ['x', 'none', 'two', 'none'], ['few']),
    makeNode('Shape', ['few'], ['shape'], { start: 0, end: 1 }),
    makeNode('Equal', ['shape', 'two'], ['isTwo']),
    makeNode('Cast', ['isTwo'], ['factor'], { to: TensorProto_DataType.FLOAT }),
    makeNode('Mul', ['x', 'factor'], ['y']),
  ];
  const model = modelOf(['batch', 3], node, [int64Tensor('none', [0]), int64Tensor('two', [2])]);
  const { model: prepared, folded } = prepare(model);
  expect([operatorsOf(prepared).length, folded]).toEqual([5, 0]);
  await expectSameOutputs(model, prepared, [1, 3], [2, 3], [5, 3]);
  // A comparison is the same for the least and the greatest batch, and not for the one between.
  const between = modelOf(
    ['batch', 3],
    [makeNode('Shape', ['x'], ['shape'], { start: 0, end: 1 }), ...node.slice(2)],
    [int64Tensor('two', [2])],
  );
  const { model: kept } = prepare(between);
  await expectSameOutputs(between, kept, [1, 3], [2, 3], [5, 3]);
});

test('what an input of unknown rank or an unknown operator makes is not followed', async () => {
  const shaped = (first: NodeProto): NodeProto[] => [
    first,
    makeNode('Shape', ['odd'], ['shape']),
    makeNode('Expand', ['x', 'shape'], ['y']),
  ];
  const model = modelOf([4], shaped(makeNode('NonZero', ['x'], ['odd'])), []);
  const { model: prepared, folded } = prepare(model);
  expect([operatorsOf(prepared), folded]).toEqual([['NonZero', 'Shape', 'Expand'], 0]);
});

test('a result larger than the limit stays as it was, unless it takes the place of as much', () => {
  const side = Math.ceil(Math.sqrt(FOLDED_BYTES_MAX / 4)) + 1;
  const large = modelOf(
    ['batch', side],
    [makeNode('ConstantOfShape', ['sizes'], ['table']), makeNode('MatMul', ['x', 'table'], ['y'])],
    [int64Tensor('sizes', [side, side])],
  );
  expect([operatorsOf(prepare(large).model), prepare(large).folded]).toEqual([['ConstantOfShape', 'MatMul'], 0]);

  const weight = floatTensor('w', [side * 2, side], wave(2 * side * side));
  const turn = makeNode('Transpose', ['w'], ['turned']);
  const turned = modelOf(['batch', side], [turn, makeNode('MatMul', ['x', 'turned'], ['y'])], [weight]);
  expect(prepare(turned).folded).toBe(1);
  // A table that is read both ways would be in the file twice.
  const tied = modelOf(
    ['batch', side],
    [turn, makeNode('MatMul', ['x', 'turned'], ['h']), makeNode('MatMul', ['h', 'w'], ['y'])],
    [weight],
  );
  expect([operatorsOf(prepare(tied).model), prepare(tied).folded]).toEqual([['Transpose', 'MatMul', 'MatMul'], 0]);
});

test('an output of the model stays a node, and what reads it takes the constant', () => {
  const node = [makeNode('Shape', ['x'], ['y']), makeNode('Identity', ['y'], ['z'])];
  const model = modelOf([2, 3], node, []);
  const { model: prepared, folded } = prepare(model);
  expect([operatorsOf(prepared), folded]).toEqual([['Shape'], 0]);
});

test('integers beyond what a double holds survive', async () => {
  const last = 2n ** 63n - 1n;
  const end = { ...int64Tensor('end', [0], []), int64Data: [last] };
  const node = [
    makeNode('Unsqueeze', ['end', 'axis'], ['ends']),
    makeNode('Slice', ['x', 'start', 'ends', 'axis1'], ['y']),
  ];
  const constants = [end, int64Tensor('axis', [0]), int64Tensor('axis1', [1]), int64Tensor('start', [1])];
  const model = modelOf(['batch', 4], node, constants);
  const { model: prepared } = prepare(model);
  expect(operatorsOf(prepared)).toEqual(['Slice']);
  const ends = graphOf(prepared).initializer.find(({ name }) => name === 'ends')!;
  expect([dimsOf(ends), new DataView(ends.rawData.buffer).getBigInt64(0, true)]).toEqual([[1], last]);
  expect(integerValues(ends)).toHaveLength(1);
  await expectSameOutputs(model, prepared, [2, 4]);
});

import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { readModel, writeModel } from '../onnx/file.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import type { Attributes } from '../onnx/nodes.ts';
import { floatTensor, int64Tensor } from '../onnx/tensor-data.ts';
import { floatOnly, toHalf } from './half.ts';

const { BOOL, DOUBLE, FLOAT, FLOAT16, INT32, INT64 } = TensorProto_DataType;
const SIDE = 4;

const wave = (length: number): Float32Array =>
  Float32Array.from({ length }, (_, index) => Math.sin((index + 1) * 1.7) * 2);
const weight = floatTensor('w', [SIDE, SIDE], wave(SIDE * SIDE));
const table = floatTensor('table', [5000, 2], wave(10_000));

/** A model of float inputs and one output `y`. */
function modelOf(
  node: NodeProto[],
  { initializer = [weight], type = FLOAT, inputs = ['x'], dims = ['n', SIDE] }: Partial<Shape> = {},
): ModelProto {
  return makeModel({
    name: 'half',
    node,
    initializer,
    input: inputs.map((name) => makeValue(name, dims)),
    output: [makeValue('y', ['a', 'b'], type)],
  });
}
interface Shape {
  initializer: TensorProto[];
  type: number;
  inputs: string[];
  dims: (number | string)[];
}

async function run(model: ModelProto, x: Float32Array, dims: readonly number[]): Promise<number[]> {
  const session = await ort.InferenceSession.create(writeModel(model), { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const feeds = session.inputNames.map((name) => [name, new ort.Tensor('float32', x.slice(), dims)] as const);
  const { y } = await session.run(Object.fromEntries(feeds));
  await session.release();
  return Array.from(y!.data as ArrayLike<number | bigint>, Number);
}

/** The form as its file is read again, and what it and the model answer. */
async function answers(model: ModelProto, exclude: string[] = [], x = wave(8), dims = [2, SIDE]) {
  const { model: half, kept, layers } = toHalf(model, { exclude });
  const form = readModel(writeModel(half));
  return { exact: await run(model, x, dims), half: await run(form, x, dims), kept, layers, form };
}

/** Largest difference, of the largest value. */
function apart(exact: readonly number[], half: readonly number[]): number {
  expect(half).toHaveLength(exact.length);
  const largest = Math.max(...exact.map(Math.abs), 1e-6);
  return Math.max(...exact.map((value, index) => Math.abs(value - half[index]!))) / largest;
}

describe('a Cast goes to float16 only where it went to float32', () => {
  test('whole numbers for a Gather stay whole numbers, of as many digits as the float32 input had', async () => {
    const nodes = [
      makeNode('Cast', ['x'], ['ids'], { to: INT64 }),
      makeNode('Gather', ['table', 'ids'], ['rows']),
      makeNode('ReduceMean', ['rows'], ['y'], { axes: [1], keepdims: 0 }),
    ];
    const model = modelOf(nodes, { initializer: [table] });
    const { exact, half } = await answers(model, [], Float32Array.of(0, 1, 2047, 2049, 4095, 4097, 4099, 4999));
    expect(apart(exact, half)).toBeLessThan(2e-3);
  });

  test('truths for a Where stay truths', async () => {
    const nodes = [
      makeNode('Relu', ['x'], ['positive']),
      makeNode('Cast', ['positive'], ['which'], { to: BOOL }),
      makeNode('MatMul', ['x', 'w'], ['product']),
      makeNode('Where', ['which', 'product', 'x'], ['y']),
    ];
    const { exact, half } = await answers(modelOf(nodes));
    expect(apart(exact, half)).toBeLessThan(2e-3);
  });

  test.each([
    ['int32', INT32],
    ['int64', INT64],
    ['double', DOUBLE],
    ['float16', FLOAT16],
    ['bool', BOOL],
  ])('through %s and back to float32', async (_, to) => {
    const nodes = [
      makeNode('MatMul', ['x', 'w'], ['product']),
      makeNode('Cast', ['product'], ['other'], { to }),
      makeNode('Cast', ['other'], ['back'], { to: FLOAT }),
      makeNode('Add', ['back', 'x'], ['y']),
    ];
    const { exact, half } = await answers(modelOf(nodes));
    expect(apart(exact, half)).toBeLessThan(2e-3);
  });

  test('an output of whole numbers keeps its type', async () => {
    const nodes = [makeNode('MatMul', ['x', 'w'], ['product']), makeNode('Cast', ['product'], ['y'], { to: INT64 })];
    const { exact, half } = await answers(modelOf(nodes, { type: INT64 }));
    expect(half).toEqual(exact);
  });

  test('CastLike takes the type that its example has in the form', async () => {
    const nodes = [
      makeNode('MatMul', ['x', 'w'], ['product']),
      makeNode('Shape', ['x'], ['sizes']),
      makeNode('CastLike', ['product', 'sizes'], ['whole']),
      makeNode('CastLike', ['whole', 'product'], ['back']),
      makeNode('Add', ['back', 'product'], ['y']),
    ];
    const { exact, half } = await answers(modelOf(nodes));
    expect(apart(exact, half)).toBeLessThan(2e-3);
  });
});

/** Nodes that make the float `made` of the product, whose type an attribute says or no kernel for float16 computes. */
const makers: Record<string, { nodes: NodeProto[]; isDrawn?: boolean }> = {
  EyeLike: { nodes: [makeNode('EyeLike', ['product'], ['made'], { dtype: FLOAT })] },
  'EyeLike of the type of its input': { nodes: [makeNode('EyeLike', ['product'], ['made'])] },
  'EyeLike of whole numbers': {
    nodes: [
      makeNode('Cast', ['product'], ['whole'], { to: INT64 }),
      makeNode('EyeLike', ['whole'], ['made'], { dtype: FLOAT }),
    ],
  },
  ConstantOfShape: {
    nodes: [makeNode('Shape', ['product'], ['sizes']), makeNode('ConstantOfShape', ['sizes'], ['made'])],
  },
  RandomNormal: { nodes: [makeNode('RandomNormal', [], ['made'], { shape: [2, SIDE] })], isDrawn: true },
  RandomUniform: {
    nodes: [makeNode('RandomUniform', [], ['made'], { shape: [2, SIDE], dtype: FLOAT })],
    isDrawn: true,
  },
  RandomNormalLike: { nodes: [makeNode('RandomNormalLike', ['product'], ['made'])], isDrawn: true },
  RandomUniformLike: { nodes: [makeNode('RandomUniformLike', ['product'], ['made'], { dtype: FLOAT })], isDrawn: true },
  Bernoulli: {
    nodes: [makeNode('Sigmoid', ['product'], ['p']), makeNode('Bernoulli', ['p'], ['made'])],
    isDrawn: true,
  },
  Multinomial: {
    nodes: [
      makeNode('Multinomial', ['product'], ['drawn'], { sample_size: SIDE }),
      makeNode('Cast', ['drawn'], ['made'], { to: FLOAT }),
    ],
    isDrawn: true,
  },
  CumSum: { nodes: [makeNode('CumSum', ['product', 'one'], ['made'])] },
  TopK: {
    nodes: [makeNode('TopK', ['product', 'four'], ['made', 'places'])],
  },
  OneHot: {
    nodes: [
      makeNode('ArgMax', ['product'], ['best'], { axis: 1, keepdims: 0 }),
      makeNode('OneHot', ['best', 'depth', 'levels'], ['made']),
    ],
  },
  Range: {
    nodes: [
      makeNode('ReduceMax', ['x'], ['top'], { keepdims: 0 }),
      makeNode('Mul', ['top', 'zero'], ['start']),
      makeNode('Add', ['start', 'limit'], ['end']),
      makeNode('Range', ['start', 'end', 'step'], ['made']),
    ],
  },
  Resize: {
    nodes: [
      makeNode('Unsqueeze', ['product', 'front'], ['image']),
      makeNode('Resize', ['image', '', 'scales'], ['same']),
      makeNode('Squeeze', ['same', 'front'], ['made']),
    ],
  },
  HannWindow: {
    nodes: [
      makeNode('Shape', ['x'], ['sizes']),
      makeNode('Gather', ['sizes', 'oneScalar'], ['side']),
      makeNode('HannWindow', ['side'], ['made']),
    ],
  },
  SequenceEmpty: {
    nodes: [
      makeNode('SequenceEmpty', [], ['none'], { dtype: FLOAT }),
      makeNode('SequenceInsert', ['none', 'product'], ['some']),
      makeNode('SequenceInsert', ['some', 'x'], ['more']),
      makeNode('SequenceAt', ['more', 'oneScalar'], ['made']),
    ],
  },
  SplitToSequence: {
    nodes: [
      makeNode('SplitToSequence', ['product'], ['parts'], { axis: 1 }),
      makeNode('ConcatFromSequence', ['parts'], ['made'], { axis: 1 }),
    ],
  },
};
const constants = [
  weight,
  int64Tensor('one', [1]),
  int64Tensor('oneScalar', [1], []),
  int64Tensor('four', [SIDE]),
  int64Tensor('depth', [SIDE]),
  int64Tensor('front', [0, 1]),
  floatTensor('levels', [2], Float32Array.of(0, 1)),
  floatTensor('zero', [], Float32Array.of(0)),
  floatTensor('limit', [], Float32Array.of(SIDE)),
  floatTensor('step', [], Float32Array.of(1)),
  floatTensor('scales', [4], Float32Array.of(1, 1, 1, 1)),
];

const withMaker = (nodes: NodeProto[]): ModelProto =>
  modelOf(
    [
      makeNode('MatMul', ['x', 'w'], ['product']),
      ...nodes,
      makeNode('Add', ['made', 'product'], ['sum']),
      makeNode('MatMul', ['sum', 'w'], ['y']),
    ],
    { initializer: constants },
  );

test.each(Object.entries(makers))('%s stands between nodes of float16', async (_, { nodes, isDrawn = false }) => {
  const { exact, half, layers } = await answers(withMaker(nodes));
  expect(layers.map(({ node }) => node)).toEqual(expect.arrayContaining(['product', 'sum', 'y']));
  // What is drawn differs from run to run; that it is loaded and gives numbers is what can be asked.
  if (isDrawn) expect(half.every(Number.isFinite)).toBe(true);
  else expect(apart(exact, half)).toBeLessThan(4e-3);
});

test('what stands in the list stays float32, and is reported with the reason', async () => {
  const listed = Object.values(makers).flatMap(({ nodes }) => nodes.filter(({ opType }) => floatOnly.includes(opType)));
  for (const node of listed) {
    const { nodes } = Object.values(makers).find((maker) => maker.nodes.includes(node))!;
    const { kept } = toHalf(withMaker(nodes));
    expect(kept).toContainEqual({ node: node.name, operator: node.opType, reason: 'needs float32' });
  }
  expect(listed.length).toBeGreaterThan(10);
});

test.each([['Cast'], ['product'], ['Add'], ['MatMul', 'EyeLike']])(
  'a form without %s in float16 is loaded and answers',
  async (...exclude) => {
    const attributes: Attributes = { to: INT64 };
    const nodes = [
      makeNode('Cast', ['product'], ['whole'], attributes),
      makeNode('EyeLike', ['whole'], ['eye'], { dtype: FLOAT }),
      makeNode('Cast', ['whole'], ['back'], { to: FLOAT }),
      makeNode('Mul', ['eye', 'back'], ['made']),
    ];
    const { exact, half, kept } = await answers(withMaker(nodes), exclude);
    expect(apart(exact, half)).toBeLessThan(4e-3);
    expect(kept.filter(({ reason }) => reason === 'is excluded')).not.toEqual([]);
  },
);

test('the mean that a LayerNormalization hands on is a float32, so it stays one', async () => {
  const nodes = [
    makeNode('MatMul', ['x', 'w'], ['product']),
    makeNode('LayerNormalization', ['product', 'scale'], ['normed', 'mean']),
    makeNode('Add', ['normed', 'mean'], ['y']),
  ];
  const initializer = [weight, floatTensor('scale', [SIDE], wave(SIDE))];
  const { exact, half } = await answers(modelOf(nodes, { initializer }));
  expect(apart(exact, half)).toBeLessThan(4e-3);
});

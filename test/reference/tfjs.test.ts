/** Rows of the gradient table against TensorFlow.js's autodiff, for the operators that it has. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { expect, test } from 'vitest';
import { differentiate } from '../../core/src/autodiff/backward.ts';
import { gradients } from '../../core/src/autodiff/gradients.ts';
import { GraphBuilder } from '../../core/src/onnx/graph-builder.ts';
import { makeNode } from '../../core/src/onnx/nodes.ts';
import type { Attributes } from '../../core/src/onnx/nodes.ts';
import { sizeOf } from '../../core/src/tensor/shape.ts';
import { loadTfjs } from '../support/tfjs.ts';
import { draw, generator } from './differences.ts';
import type { Numbers } from './differences.ts';
import { evaluate } from './evaluate.ts';

const tf = loadTfjs();

interface Case {
  shapes: number[][];
  /** The same in TensorFlow.js. */
  theirs: (...x: Tensor[]) => Tensor;
  attributes?: Attributes;
  /** Constants after the inputs: lists of integers, or scalars. */
  constants?: (number[] | { scalar: number })[];
  numbers?: Numbers;
  /** How many of the inputs have gradients; all by default. */
  trained?: number;
  /** A constant in front of the inputs. */
  first?: (graph: GraphBuilder) => string;
  /** Places after the inputs, with a shape. */
  indices?: { values: number[]; shape: number[] };
  /** Outputs of the node; the first is compared. */
  outputs?: number;
}

const shape = [2, 3];
const unary = (theirs: (x: Tensor) => Tensor, attributes: Attributes = {}, numbers: Numbers = 'any'): Case => ({
  shapes: [shape],
  theirs: theirs as Case['theirs'],
  attributes,
  numbers,
});
const binary = (theirs: (a: Tensor, b: Tensor) => Tensor, numbers: Numbers = 'any'): Case => ({
  shapes: [
    [2, 1, 3],
    [4, 1],
  ],
  theirs: theirs as Case['theirs'],
  numbers,
});

// Images lie [batch, channels, ...] with us and [batch, ..., channels] with them; kernels [filters, channels, ...] and [..., channels, filters].
const last = (x: Tensor): Tensor => tf.transpose(x, [0, ...spatial(x), 1]);
const second = (x: Tensor): Tensor => tf.transpose(x, [0, x.rank - 1, ...spatial(x).map((axis) => axis - 1)]);
const kernel = (x: Tensor): Tensor => tf.transpose(x, [...spatial(x), 1, 0]);
const spatial = (x: Tensor): number[] => Array.from({ length: x.rank - 2 }, (_, axis) => axis + 2);
const image =
  (change: (x: Tensor, ...more: Tensor[]) => Tensor) =>
  (x: Tensor, ...more: Tensor[]): Tensor =>
    second(change(last(x), ...more));

/** Less its mean, by its spread. */
function normal(x: Tensor, axes: number[]): Tensor {
  const { mean, variance } = tf.moments(x, axes, true);
  return tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, 1e-5)));
}

/** Rows that TensorFlow.js is no second opinion on, and why. */
const without: Readonly<Record<string, string>> = {
  Einsum: 'its einsum has no gradient; finite differences and ONNX Runtime check the row',
  ScatterElements: 'its scatters have no gradient; finite differences and ONNX Runtime check the row',
  ScatterND: 'its scatters have no gradient; finite differences and ONNX Runtime check the row',
};

const cases: Readonly<Record<string, Case>> = {
  Abs: unary((x) => tf.abs(x)),
  Neg: unary((x) => tf.neg(x)),
  Exp: unary((x) => tf.exp(x)),
  Log: unary((x) => tf.log(x), {}, 'positive'),
  Sqrt: unary((x) => tf.sqrt(x), {}, 'positive'),
  Reciprocal: unary((x) => tf.reciprocal(x)),
  Sin: unary((x) => tf.sin(x)),
  Cos: unary((x) => tf.cos(x)),
  Erf: unary((x) => tf.erf(x)),
  Relu: unary((x) => tf.relu(x)),
  LeakyRelu: unary((x) => tf.leakyRelu(x, 0.3), { alpha: { float: 0.3 } }),
  Sigmoid: unary((x) => tf.sigmoid(x)),
  Tanh: unary((x) => tf.tanh(x)),
  Elu: unary((x) => tf.elu(x)),
  Selu: unary((x) => tf.selu(x)),
  Softplus: unary((x) => tf.softplus(x)),
  Softmax: unary((x) => tf.softmax(x)),
  LogSoftmax: unary((x) => tf.logSoftmax(x)),
  Identity: unary((x) => tf.clone(x)),
  Clip: { ...unary((x) => tf.clipByValue(x, -0.6, 0.6)), constants: [{ scalar: -0.6 }, { scalar: 0.6 }] },
  PRelu: {
    shapes: [
      [2, 3, 2],
      [3, 2],
    ],
    theirs: (x, slope) => tf.prelu(x!, slope!),
  },
  Add: binary((a, b) => tf.add(a, b)),
  Sub: binary((a, b) => tf.sub(a, b)),
  Mul: binary((a, b) => tf.mul(a, b)),
  Div: binary((a, b) => tf.div(a, b)),
  Pow: binary((a, b) => tf.pow(a, b), 'positive'),
  // TensorFlow.js does not undo the broadcasting of these two.
  Max: { shapes: [shape, shape], theirs: (a, b) => tf.maximum(a!, b!) },
  Min: { shapes: [shape, shape], theirs: (a, b) => tf.minimum(a!, b!) },
  MatMul: {
    shapes: [
      [2, 3, 4],
      [2, 4, 2],
    ],
    theirs: (a, b) => tf.matMul(a!, b!),
  },
  Gemm: {
    shapes: [[4, 2], [4, 3], [3]],
    theirs: (a, b, c) => tf.add(tf.matMul(a!, b!, true), c!),
    attributes: { transA: 1 },
  },
  Conv: {
    shapes: [
      [2, 2, 6, 5],
      [3, 2, 3, 2],
    ],
    theirs: (x, w) => image((y) => tf.conv2d(y as never, kernel(w!) as never, [2, 1], 'valid'))(x!),
    attributes: { strides: [2, 1] },
  },
  'Conv in three dimensions': {
    shapes: [
      [1, 2, 4, 4, 3],
      [2, 2, 2, 2, 2],
    ],
    theirs: (x, w) => image((y) => tf.conv3d(y as never, kernel(w!) as never, 1, 'valid'))(x!),
  },
  'Conv of each channel by itself': {
    shapes: [
      [2, 3, 6, 5],
      [3, 1, 3, 3],
    ],
    theirs: (x, w) =>
      image((y) => tf.depthwiseConv2d(y as never, tf.transpose(w!, [2, 3, 0, 1]) as never, 1, 'valid'))(x!),
    attributes: { group: 3 },
  },
  ConvTranspose: {
    shapes: [
      [2, 3, 3, 4],
      [3, 2, 3, 3],
    ],
    theirs: (x, w) => image((y) => tf.conv2dTranspose(y as never, kernel(w!) as never, [2, 7, 9, 2], 2, 'valid'))(x!),
    attributes: { strides: [2, 2] },
  },
  MaxPool: {
    shapes: [[2, 2, 6, 4]],
    theirs: (x) => image((y) => tf.maxPool(y as never, 2, 2, 'valid'))(x!),
    attributes: { kernel_shape: [2, 2], strides: [2, 2] },
    numbers: 'distinct',
  },
  AveragePool: {
    shapes: [[2, 2, 5, 4]],
    theirs: (x) => image((y) => tf.avgPool(y as never, [3, 2], 1, 'valid'))(x!),
    attributes: { kernel_shape: [3, 2] },
  },
  BatchNormalization: {
    shapes: [[2, 3, 4, 2], [3], [3], [3], [3]],
    theirs: (x, scale, offset, mean, variance) =>
      image((y) => tf.batchNorm(y, mean as never, variance as never, offset as never, scale as never, 1e-5))(x!),
    numbers: 'positive',
    trained: 3,
  },
  Reshape: { shapes: [[2, 6]], theirs: (x) => tf.reshape(x!, [3, 4]), constants: [[3, 4]] },
  Transpose: { shapes: [[2, 3, 4]], theirs: (x) => tf.transpose(x!, [1, 2, 0]), attributes: { perm: [1, 2, 0] } },
  Squeeze: { shapes: [[2, 1, 3]], theirs: (x) => tf.squeeze(x!, [1]), constants: [[1]] },
  Unsqueeze: { shapes: [[2, 3]], theirs: (x) => tf.expandDims(x!, 1), constants: [[1]] },
  Expand: { shapes: [[2, 1, 3]], theirs: (x) => tf.broadcastTo(x!, [2, 4, 3]), constants: [[2, 4, 3]] },
  Tile: { shapes: [[2, 3]], theirs: (x) => tf.tile(x!, [2, 3]), constants: [[2, 3]] },
  Pad: {
    shapes: [[2, 3]],
    theirs: (x) =>
      tf.pad(x!, [
        [1, 0],
        [2, 1],
      ]),
    constants: [[1, 2, 0, 1]],
  },
  Concat: {
    shapes: [
      [2, 3],
      [2, 4],
    ],
    theirs: (a, b) => tf.concat([a!, b!], 1),
    attributes: { axis: 1 },
  },
  Slice: {
    shapes: [[4, 5]],
    theirs: (x) => tf.slice(x!, [1, 2], [2, 3]),
    constants: [
      [1, 2],
      [3, 5],
    ],
  },
  Gather: { shapes: [[4, 3]], theirs: (x) => tf.gather(x!, [0, 2, 2], 0), constants: [[0, 2, 2]] },
  CumSum: {
    shapes: [[2, 4]],
    theirs: (x) => tf.cumsum(x!, 1, true, false),
    attributes: { exclusive: 1 },
    constants: [{ scalar: 1 }],
  },
  ReduceSum: {
    shapes: [[2, 3, 2]],
    theirs: (x) => tf.sum(x!, [0, 2]),
    attributes: { keepdims: 0 },
    constants: [[0, 2]],
  },
  ReduceMean: { shapes: [[2, 3, 2]], theirs: (x) => tf.mean(x!, 1, true), attributes: { axes: [1] } },
  ReduceMax: { shapes: [[2, 3]], theirs: (x) => tf.max(x!, 1, true), attributes: { axes: [1] }, numbers: 'distinct' },
  ReduceMin: { shapes: [[2, 3]], theirs: (x) => tf.min(x!, 1, true), attributes: { axes: [1] }, numbers: 'distinct' },
  ReduceL1: { shapes: [[2, 3]], theirs: (x) => tf.norm(x!, 1, 1, true), attributes: { axes: [1] } },
  ReduceL2: { shapes: [[2, 3]], theirs: (x) => tf.norm(x!, 'euclidean', 1, true), attributes: { axes: [1] } },
  ReduceLogSumExp: { shapes: [[2, 3]], theirs: (x) => tf.logSumExp(x!, 1, true), attributes: { axes: [1] } },
  ReduceSumSquare: { shapes: [[2, 3]], theirs: (x) => tf.sum(tf.square(x!), 1, true), attributes: { axes: [1] } },
  // Its own product wants the chained form of its operators.
  ReduceProd: {
    shapes: [[2, 3]],
    theirs: (x) => tf.exp(tf.sum(tf.log(x!), 1, true)),
    attributes: { axes: [1] },
    numbers: 'positive',
  },
  ReduceLogSum: {
    shapes: [[2, 3]],
    theirs: (x) => tf.log(tf.sum(x!, 1, true)),
    attributes: { axes: [1] },
    numbers: 'positive',
  },
  // What follows it has no operator of its own for, and takes gradients through the ones that these are made of.
  Cast: unary((x) => tf.cast(x, 'float32'), { to: 1 }),
  Dropout: unary((x) => tf.clone(x)),
  Flatten: { shapes: [[2, 3, 2]], theirs: (x) => tf.reshape(x!, [2, 6]), attributes: { axis: 1 } },
  Softsign: unary((x) => tf.div(x, tf.add(tf.abs(x), 1))),
  HardSigmoid: unary((x) => tf.clipByValue(tf.add(tf.mul(x, 0.3), 0.4), 0, 1), {
    alpha: { float: 0.3 },
    beta: { float: 0.4 },
  }),
  HardSwish: unary((x) => tf.mul(x, tf.clipByValue(tf.add(tf.div(x, 6), 0.5), 0, 1))),
  Where: {
    shapes: [shape, shape],
    theirs: (a, b) => tf.where(tf.tensor([true, false, true], [1, 3], 'bool'), a!, b!),
    first: (graph) => graph.emit('Greater', [graph.floats(Float32Array.of(1, 0, 1), [1, 3]), graph.scalar(0)]),
  },
  Trilu: {
    shapes: [[3, 3]],
    theirs: (x) => tf.mul(x!, tf.tensor([1, 1, 1, 0, 1, 1, 0, 0, 1], [3, 3])),
    attributes: { upper: 1 },
  },
  GlobalAveragePool: { shapes: [[2, 3, 4, 2]], theirs: (x) => tf.mean(x!, [2, 3], true) },
  Split: {
    shapes: [[2, 5]],
    theirs: (x) => tf.split(x!, [2, 3], 1)[0]!,
    attributes: { axis: 1 },
    constants: [[2, 3]],
    outputs: 2,
  },
  GatherElements: {
    shapes: [[2, 3]],
    theirs: (x) => tf.reshape(tf.gather(tf.reshape(x!, [6]), [2, 0, 5, 5]), [2, 2]),
    attributes: { axis: 1 },
    indices: { values: [2, 0, 2, 2], shape: [2, 2] },
  },
  GatherND: {
    shapes: [[2, 3]],
    theirs: (x) => tf.gather(tf.reshape(x!, [6]), [5, 0, 5]),
    indices: { values: [1, 2, 0, 0, 1, 2], shape: [3, 2] },
  },
  LayerNormalization: {
    shapes: [[3, 4], [4], [4]],
    theirs: (x, scale, bias) => tf.add(tf.mul(normal(x!, [1]), scale!), bias!),
  },
  InstanceNormalization: {
    shapes: [[2, 3, 4], [3], [3]],
    theirs: (x, scale, bias) => {
      const column = (y: Tensor): Tensor => tf.reshape(y, [3, 1]);
      return tf.add(tf.mul(normal(x!, [2]), column(scale!)), column(bias!));
    },
  },
  // Its gradient swaps height and width, so that only a square tells.
  Resize: {
    shapes: [[1, 2, 3, 3]],
    theirs: (x) => image((y) => tf.image.resizeBilinear(y as never, [6, 7], true))(x!),
    attributes: { mode: 'linear', coordinate_transformation_mode: 'align_corners' },
    constants: [[1, 2, 6, 7]],
  },
  'Resize to the nearest': {
    shapes: [[1, 2, 3, 4]],
    theirs: (x) => image((y) => tf.image.resizeNearestNeighbor(y as never, [6, 8]))(x!),
    attributes: { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
    constants: [[1, 2, 6, 8]],
  },
};

test.each(Object.entries(cases))('%s has the gradient of TensorFlow.js', async (title, example) => {
  await tf.setBackend('cpu');
  const [operator] = title.split(' ') as [string];
  const { shapes, theirs, attributes = {}, constants = [], numbers = 'any', trained = shapes.length } = example;
  const { first, indices, outputs = 1 } = example;
  const uniform = generator(title.length);
  const graph = new GraphBuilder('test/');
  const names = shapes.map((size, index) => graph.input(`x${index}`, size));
  const more = constants.map((one) => constantIn(graph, operator, one));
  if (indices !== undefined) {
    more.push(graph.emit('Reshape', [graph.integers(indices.values), graph.integers(indices.shape)]));
  }
  // Between the image and the sizes of a Resize stand two inputs that it does without.
  const given = operator === 'Resize' ? [...names, '', '', ...more] : [...names, ...more];
  if (first !== undefined) given.unshift(first(graph));
  const node = makeNode(operator, given, ['y', 'y1', 'y2'].slice(0, outputs), attributes);
  graph.append(node);
  const wanted = names.slice(0, trained);
  const found = differentiate(graph, [node], new Map([['y', graph.input('seed', graph.shapeOf('y'))]]), wanted);
  const feeds = new Map(
    [...names, 'seed'].map((name) => [
      name,
      draw(sizeOf(graph.shapeOf(name)), name === 'seed' ? 'any' : numbers, uniform),
    ]),
  );
  const ours = evaluate(graph, feeds);
  const tensor = (name: string): Tensor => tf.tensor(Float32Array.from(feeds.get(name)!), [...graph.shapeOf(name)]);
  const fixed = names.slice(trained).map(tensor);
  const grads = tf.grads((...x: Tensor[]) => theirs(...x, ...fixed));
  const expected = grads(wanted.map(tensor), tensor('seed'));
  for (const [index, name] of wanted.entries()) {
    const values = await expected[index]!.data();
    const own = ours.get(found.get(name)!)!;
    expect([...own].length).toBe(values.length);
    const size = 1 + Math.max(...own.map(Math.abs));
    own.forEach((value, at) => expect(Math.abs(value - values[at]!) / size).toBeLessThan(1e-5));
  }
});

test('each row of the table is compared, or it is said why not', () => {
  const compared = new Set(Object.keys(cases).map((title) => title.split(' ')[0]!));
  expect(
    Object.keys(gradients)
      .filter((name) => !compared.has(name))
      .sort(),
  ).toEqual(Object.keys(without).sort());
});

function constantIn(graph: GraphBuilder, operator: string, constant: number[] | { scalar: number }): string {
  if (Array.isArray(constant)) return graph.integers(constant);
  if (operator !== 'CumSum') return graph.scalar(constant.scalar);
  return graph.emit('Reshape', [graph.integers([constant.scalar]), graph.integers([])]);
}

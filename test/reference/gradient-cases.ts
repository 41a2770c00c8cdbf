/** Random cases of every operator that has a gradient. */
import { differentiate } from '../../core/src/autodiff/backward.ts';
import { writeConvolutions } from '../../core/src/autodiff/convolution.ts';
import type { GradientForms } from '../../core/src/autodiff/forms.ts';
import { gradients } from '../../core/src/autodiff/gradients.ts';
import { GraphBuilder } from '../../core/src/onnx/graph-builder.ts';
import { makeNode } from '../../core/src/onnx/nodes.ts';
import type { Attributes } from '../../core/src/onnx/nodes.ts';
import { int64Tensor } from '../../core/src/onnx/tensor-data.ts';
import { sizeOf } from '../../core/src/tensor/shape.ts';
import { draw } from './differences.ts';
import type { Differentiated, Numbers } from './differences.ts';

/** One node to differentiate: `integers` follow the float inputs. */
export interface Case {
  inputs: number[][];
  integers?: number[];
  /** Constant scalars that follow. */
  floats?: number[];
  /** Shape of a boolean that comes first. */
  condition?: number[];
  /** Lists of integers that follow, one an input. */
  bounds?: number[][];
  /** Constants with a shape, put among the others at these positions; `[]` without numbers leaves an optional input out. */
  among?: readonly { at: number; integers?: number[]; floats?: number[]; shape?: number[] }[];
  /** Positions of inputs that are not trained. */
  fixed?: number[];
  outputs?: number;
  attributes?: Attributes;
  numbers?: Numbers;
}

type Dice = (...sides: readonly number[]) => number;

const unary = (dice: Dice): Case => ({ inputs: [[dice(1, 2, 3), dice(1, 4)]] });
const positive = (dice: Dice): Case => ({ ...unary(dice), numbers: 'positive' });
const broadcast = (dice: Dice): Case => {
  const shape = [dice(1, 2), dice(2, 3), dice(1, 3)];
  const other = shape.map((size) => dice(1, size)).slice(dice(0, 1, 2, 3));
  return { inputs: dice(0, 1) === 0 ? [shape, other] : [other, shape], numbers: 'positive' };
};
const softmax = (dice: Dice): Case => ({ inputs: [[2, dice(2, 3), 3]], attributes: { axis: dice(-1, 0, 1, 2) } });
const reduction = (dice: Dice): Case => {
  const axes = [[0], [1], [-1], [0, 2]][dice(0, 1, 2, 3)]!;
  return { inputs: [[2, dice(1, 3), 2]], integers: axes, attributes: { keepdims: dice(0, 1) } };
};
/** Axes as an attribute, as operator set 17 has them. */
const attributeReduction = (dice: Dice): Case => {
  const { inputs, integers, attributes } = reduction(dice);
  return { inputs, attributes: { ...attributes, axes: integers! } };
};
const windows = (dice: Dice, kernel: readonly number[]): Attributes => {
  const auto = dice(0, 0, 0, 1, 2, 3);
  const strides = kernel.map(() => dice(1, 2, 3));
  if (auto > 0) return { strides, auto_pad: ['', 'SAME_UPPER', 'SAME_LOWER', 'VALID'][auto]! };
  const pads = [...kernel, ...kernel].map((size) => (size > 1 ? dice(0, 1) : 0));
  return { strides, pads };
};

const maxPool = (dice: Dice, planes: readonly number[], rank: number): Case => {
  const kernel = [dice(1, 2, 3), dice(1, 2, 3), dice(1, 2)].slice(0, rank);
  const attributes = { kernel_shape: kernel, ...windows(dice, kernel) };
  const dilations = kernel.map((_, axis) => (axis === 0 ? dice(1, 1, 2) : 1));
  const ceil = 'auto_pad' in attributes ? {} : { ceil_mode: dice(0, 0, 1), dilations };
  const image = [...planes, ...kernel.map((_, axis) => (axis < 2 ? dice(5, 6) : 3))];
  return { inputs: [image], attributes: { ...attributes, ...ceil }, numbers: 'distinct' };
};

/** Convolutions of images of a few pixels. */
export const smallConv = (dice: Dice): Case => {
  const rank = dice(1, 2, 2, 3);
  const kernel = Array.from({ length: rank }, () => dice(1, 2, 3));
  const filters = dice(1, 2, 3);
  const inputs = [
    [dice(1, 2), dice(1, 2), ...kernel.map(() => (rank === 1 ? dice(3, 5) : dice(1, 2)))],
    [filters, 0, ...kernel],
  ];
  inputs[1]![1] = inputs[0]![1]!;
  if (dice(0, 1) === 1) inputs.push([filters]);
  const pads = [...kernel, ...kernel].map((size) => Math.floor(size / 2));
  return { inputs, attributes: { strides: kernel.map(() => dice(1, 2)), pads } };
};

/** Convolutions of channels that fill whole blocks, and some that do not. */
export const blockedConv =
  (block: number) =>
  (dice: Dice): Case => {
    const kernel = [dice(1, 2, 3), dice(1, 2, 3, 5)];
    const [channels, filters] = [dice(1, block, 2 * block, block + 1), dice(block, block, 2 * block, block + 1)];
    const inputs = [
      [dice(1, block, block + 1, 2 * block), channels, dice(5, 6), dice(5, 7)],
      [filters, channels, ...kernel],
    ];
    if (dice(0, 1) === 1) inputs.push([filters]);
    // As wide as kernels of five have it, and other borders.
    const isWide = kernel[1] === 5;
    const sliding = isWide ? { strides: [1, dice(1, 2)], pads: [0, 2, 0, 2] } : windows(dice, kernel);
    const dilations = kernel.map(() => ('auto_pad' in sliding || isWide ? 1 : dice(1, 1, 2)));
    return { inputs, attributes: { dilations, ...sliding } };
  };

/** Random cases per operator; a row of the gradient table without cases fails. */
export const cases: Readonly<Record<string, (dice: Dice) => Case>> = {
  Identity: unary,
  Dropout: unary,
  Cast: (dice) => ({ ...unary(dice), attributes: { to: 1 } }),
  Neg: unary,
  Exp: unary,
  Log: positive,
  Sqrt: positive,
  Abs: unary,
  Reciprocal: positive,
  Sin: unary,
  Cos: unary,
  Erf: unary,
  Pow: (dice) => ({ inputs: [[2, 3], [[2, 3], [1, 3], []][dice(0, 1, 2)]!], numbers: 'positive' }),
  Min: (dice) => ({ inputs: [[2, 3], [3], [2, 1]].slice(0, dice(1, 2, 3)) }),
  Max: (dice) => ({ inputs: [[2, 3], [3], [2, 1]].slice(0, dice(1, 2, 3)) }),
  Clip: (dice) => ({ inputs: [[dice(1, 2, 3), 4]], floats: [[-0.6, 0.6], [-0.6]][dice(0, 1)]! }),
  Where: (dice) => ({
    inputs: [[2, 3], [[2, 3], [3], [1]][dice(0, 1, 2)]!],
    condition: [2, dice(1, 3)],
  }),
  Elu: (dice) => ({ ...unary(dice), attributes: { alpha: { float: dice(0.5, 1) } } }),
  Selu: unary,
  Softplus: unary,
  Softsign: unary,
  HardSigmoid: (dice) => ({ ...unary(dice), attributes: { alpha: { float: dice(0.2, 0.6) } } }),
  HardSwish: unary,
  PRelu: (dice) => ({ inputs: [[2, 3, 2], [[3, 1], [1], [2, 3, 2]][dice(0, 1, 2)]!] }),
  LayerNormalization: (dice) => {
    const axis = dice(-1, 1, 2);
    const shape = [2, dice(2, 3), 3];
    const normal = shape.slice(axis === 1 ? 1 : 2);
    return {
      inputs: dice(0, 1) === 0 ? [shape, normal] : [shape, normal, normal],
      attributes: { axis, epsilon: { float: 0.1 } },
    };
  },
  InstanceNormalization: (dice) => ({
    inputs: [[2, 3, dice(3, 4), ...(dice(0, 1) === 0 ? [] : [2])], [3], [3]],
    attributes: { epsilon: { float: 0.1 } },
  }),
  BatchNormalization: (dice) => ({
    inputs: [[2, 3, dice(1, 2), ...(dice(0, 1) === 0 ? [] : [2])], [3], [3], [3], [3]],
    fixed: [3, 4],
    numbers: 'positive',
  }),
  Expand: (dice) => ({ inputs: [[[2, 1, 3], [3], [1, 1]][dice(0, 1, 2)]!], integers: [2, 2, 3] }),
  Split: (dice) => {
    const axis = dice(0, 1, -1);
    return { inputs: [[4, 4, 4]], outputs: 2, attributes: { axis }, ...(dice(0, 1) === 0 ? {} : { integers: [1, 3] }) };
  },
  Slice: (dice) => ({
    inputs: [[4, 5, 3]],
    bounds: [
      [[1], [3], [0]],
      [[-3], [1000], [1]],
      [
        [0, 1],
        [2, -1],
        [0, 1],
      ],
      [[0], [4], [-3]],
      [[1], [1000], [1], [2]],
      [[3], [0], [1], [-1]],
      [[-1], [-1000], [1], [-2]],
      [
        [3, 0],
        [-1000, 5],
        [0, 1],
        [-2, 3],
      ],
    ][dice(0, 1, 2, 3, 4, 5, 6, 7)]!,
  }),
  Tile: (dice) => ({ inputs: [[2, 1, 3]], integers: [dice(1, 2), dice(1, 3), dice(1, 2)] }),
  Pad: (dice) => {
    const mode = ['constant', 'reflect', 'edge'][dice(0, 1, 2)]!;
    const pads = [0, dice(0, 1, 2), dice(0, 2), dice(0, 1), dice(0, 1, 2), dice(0, 1)];
    if (mode === 'constant' && dice(0, 1) === 0) pads[1] = -1;
    return { inputs: [[2, 3, 4]], integers: pads, attributes: { mode } };
  },
  Resize: (dice) => {
    const mode = ['nearest', 'linear', 'cubic'][dice(0, 1, 2)]!;
    const counting = ['half_pixel', 'pytorch_half_pixel', 'asymmetric', 'align_corners'][dice(0, 1, 2, 3)]!;
    const attributes: Attributes = {
      mode,
      coordinate_transformation_mode: counting,
      nearest_mode: ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'][dice(0, 1, 2, 3)]!,
      exclude_outside: mode === 'cubic' ? dice(0, 1) : 0,
    };
    const inputs = [[1, 2, dice(3, 4), 3]];
    const by =
      dice(0, 1) === 0
        ? [{ at: 1 }, { at: 2, floats: [1, 1, dice(2, 1.5), dice(2, 3)] }]
        : [{ at: 1 }, { at: 2 }, { at: 3, integers: [1, 2, dice(2, 6, 7), dice(2, 3, 5)] }];
    return { inputs, among: by, attributes };
  },
  CumSum: (dice) => ({
    inputs: [[2, 3, 2]],
    among: [{ at: 1, integers: [dice(0, 1, -1)], shape: [] }],
    attributes: { exclusive: dice(0, 1), reverse: dice(0, 1) },
  }),
  Trilu: (dice) => ({
    inputs: [[2, 3, 4]],
    attributes: { upper: dice(0, 1) },
    among: dice(0, 1) === 0 ? [] : [{ at: 1, integers: [dice(-1, 0, 1)], shape: [] }],
  }),
  GatherElements: (dice) => {
    const axis = dice(0, 1, -1);
    return {
      inputs: [[3, 3, 3]],
      among: [{ at: 1, integers: Array.from({ length: 8 }, () => dice(0, 1, 2, -1)), shape: [2, 2, 2] }],
      attributes: { axis },
    };
  },
  GatherND: (dice) => {
    const [dims, depth] = [dice(0, 1), dice(1, 2)];
    const integers = Array.from({ length: 4 * depth }, () => dice(0, 1, -1));
    return {
      inputs: [[2, 2, 3]],
      among: [{ at: 1, integers, shape: [2, 2, depth] }],
      attributes: { batch_dims: dims },
    };
  },
  ScatterElements: (dice) => {
    const axis = dice(0, 1);
    // What is put in place of another must have a place of its own.
    const adds = dice(0, 1) === 1;
    const integers = adds
      ? Array.from({ length: 4 }, () => dice(0, 1, -1))
      : axis === 0
        ? [0, 1, 2, -1]
        : [0, 1, -1, 0];
    return {
      inputs: [
        [4, 3],
        [2, 2],
      ],
      among: [{ at: 1, integers, shape: [2, 2] }],
      attributes: { axis, ...(adds ? { reduction: 'add' } : {}) },
    };
  },
  ScatterND: (dice) => {
    const isRow = dice(0, 1) === 0;
    const adds = dice(0, 1) === 1;
    const rows = adds ? [1, 1] : [1, -1];
    const places = adds ? [1, 1, 1, 1] : [0, 1, 2, -1];
    return {
      inputs: [[3, 2], isRow ? [2, 2] : [2]],
      among: [isRow ? { at: 1, integers: rows, shape: [2, 1] } : { at: 1, integers: places, shape: [2, 2] }],
      attributes: adds ? { reduction: 'add' } : {},
    };
  },
  Einsum: (dice) => {
    const [equation, ...inputs] = [
      ['ij,jk->ik', [2, 3], [3, 2]],
      ['bij,bkj->bik', [2, 2, 3], [2, 3, 3]],
      ['bhid,bhjd->bhij', [1, 2, 2, 3], [1, 2, 2, 3]],
      ['i,j->ij', [2], [3]],
      ['ij,ij->', [2, 3], [2, 3]],
      ['...ij,...jk', [2, 2, 3], [2, 3, 2]],
      ['ij->ji', [2, 3]],
      ['ijk->k', [2, 3, 2]],
      ['ij,j,k->ik', [2, 3], [3], [2]],
      ['ab,cb->a', [2, 3], [2, 3]],
    ][dice(...Array.from({ length: 10 }, (_, index) => index))] as [string, ...number[][]];
    return { inputs, attributes: { equation } };
  },
  Gather: (dice) => ({
    inputs: [[4, 3, 2]],
    integers: [0, -1, 0, 1].slice(0, dice(1, 3, 4)),
    attributes: { axis: dice(0, 1, -1) },
  }),
  Add: broadcast,
  Sub: broadcast,
  Mul: broadcast,
  Div: broadcast,
  Relu: unary,
  LeakyRelu: (dice) => ({ ...unary(dice), attributes: { alpha: { float: dice(0.1, 0.5) } } }),
  Sigmoid: unary,
  Tanh: unary,
  Softmax: softmax,
  LogSoftmax: softmax,
  Gemm: (dice) => {
    const [rows, depth, columns] = [dice(1, 2), dice(1, 3), dice(2, 4)];
    const [transA, transB] = [dice(0, 1), dice(0, 1)];
    const inputs = [transA === 1 ? [depth, rows] : [rows, depth], transB === 1 ? [columns, depth] : [depth, columns]];
    const biases = [[columns], [1, columns], [rows, 1], [], [1]];
    if (dice(0, 1, 2) > 0) inputs.push(biases[dice(0, 1, 2, 3, 4)]!);
    return { inputs, attributes: { transA, transB, alpha: { float: dice(1, 0.5) }, beta: { float: dice(1, 0.25) } } };
  },
  MatMul: (dice) => {
    const pairs = [
      [
        [2, 3],
        [3, 4],
      ],
      [
        [2, 2, 3],
        [3, 2],
      ],
      [
        [2, 3],
        [2, 3, 2],
      ],
      [
        [2, 1, 2, 3],
        [2, 3, 2],
      ],
      [[3], [3, 2]],
      [[2, 3], [3]],
      [[3], [3]],
      [[2, 2, 3], [3]],
      [[3], [2, 3, 2]],
    ];
    return { inputs: pairs[dice(...pairs.keys())]! };
  },
  Conv: (dice) => {
    const group = dice(1, 1, 2, 3);
    const rank = dice(1, 2, 2, 2, 3);
    const kernel = Array.from({ length: rank }, () => (rank === 3 ? dice(1, 2) : dice(1, 2, 3)));
    const filters = group * dice(1, 2);
    const inputs = [
      [dice(1, 2), group * dice(1, 2), ...kernel.map(() => (rank === 3 ? dice(3, 4) : dice(5, 6, 7)))],
      [filters, 0, ...kernel],
    ];
    inputs[1]![1] = inputs[0]![1]! / group;
    if (dice(0, 1) === 1) inputs.push([filters]);
    const sliding = windows(dice, kernel);
    // ONNX Runtime refuses dilations together with automatic padding.
    const dilations = kernel.map(() => ('auto_pad' in sliding ? 1 : dice(1, 1, 2)));
    return { inputs, attributes: { group, dilations, ...sliding } };
  },
  ConvTranspose: (dice) => {
    const group = dice(1, 1, 2, 3);
    const rank = dice(1, 2, 2, 3);
    const kernel = Array.from({ length: rank }, () => dice(1, 2, 3));
    const [channels, filters] = [group * dice(1, 2), dice(1, 2)];
    const inputs = [
      [dice(1, 2), channels, ...kernel.map(() => dice(2, 3))],
      [channels, filters, ...kernel],
    ];
    if (dice(0, 1) === 1) inputs.push([group * filters]);
    const strides = kernel.map(() => dice(1, 2, 3));
    const dilations = kernel.map(() => dice(1, 1, 2));
    const pads = [...kernel, ...kernel].map((size) => (size > 1 ? dice(0, 1) : 0));
    const extra = strides.map((stride) => (stride > 1 ? dice(0, 1) : 0));
    return { inputs, attributes: { group, strides, dilations, pads, output_padding: extra } };
  },
  MaxPool: (dice) => maxPool(dice, [2, 2], dice(1, 2, 2, 2, 3)),
  AveragePool: (dice) => {
    const kernel = [dice(2, 3), dice(1, 3), dice(1, 2)].slice(0, dice(1, 2, 2, 2, 3));
    const attributes = { kernel_shape: kernel, count_include_pad: dice(0, 1), ...windows(dice, kernel) };
    return { inputs: [[1, 2, ...kernel.map((_, axis) => (axis < 2 ? dice(5, 6) : 3))]], attributes };
  },
  GlobalAveragePool: (dice) => ({ inputs: [[2, 2, dice(1, 3), 2]] }),
  Reshape: (dice) => ({ inputs: [[2, 3, 2]], integers: [[-1], [6, 2], [0, -1], [3, 4]][dice(0, 1, 2, 3)]! }),
  Flatten: (dice) => ({ inputs: [[2, 3, 2]], attributes: { axis: dice(0, 1, 2) } }),
  Squeeze: (dice) => ({ inputs: [[2, 1, 3, 1]], integers: [[1], [-1], [1, 3]][dice(0, 1, 2)]! }),
  Unsqueeze: (dice) => ({ inputs: [[2, 3]], integers: [[0], [-1], [1, 3]][dice(0, 1, 2)]! }),
  Transpose: (dice) => ({ inputs: [[2, 3, 4]], attributes: dice(0, 1) === 0 ? {} : { perm: [1, 2, 0] } }),
  Concat: (dice) => {
    const axis = dice(0, 1, -1);
    const other = [2, 3, 2];
    other[axis === -1 ? 2 : axis] = dice(1, 4);
    return { inputs: [[2, 3, 2], other, [2, 3, 2]], attributes: { axis } };
  },
  ReduceSum: reduction,
  ReduceMean: attributeReduction,
  ReduceL1: attributeReduction,
  ReduceL2: attributeReduction,
  ReduceLogSum: (dice) => ({ ...attributeReduction(dice), numbers: 'positive' }),
  ReduceProd: (dice) => ({ ...attributeReduction(dice), numbers: dice(0, 1) === 0 ? 'any' : 'with zeros' }),
  ReduceSumSquare: attributeReduction,
  ReduceLogSumExp: attributeReduction,
  ReduceMax: (dice) => ({ ...attributeReduction(dice), numbers: 'distinct' }),
  ReduceMin: (dice) => ({ ...attributeReduction(dice), numbers: 'distinct' }),
};

interface Row {
  title: string;
  operator: string;
  forms: GradientForms;
  makeCase: ((dice: Dice) => Case) | undefined;
}

interface Form {
  forms: GradientForms;
  makeCase: (dice: Dice) => Case;
}

/** Operators whose gradients have more than one form. */
const otherForms: Readonly<Record<string, Readonly<Record<string, Form>>>> = {
  Conv: { 'Conv as matrices': { forms: { matrices: true }, makeCase: smallConv } },
  MaxPool: {
    'MaxPool by comparison': {
      forms: { pooling: 'comparison' },
      makeCase: (dice) => {
        const { attributes, ...rest } = maxPool(dice, [1, dice(1, 2)], dice(1, 2));
        // ONNX Runtime's MaxPool that gives no places refuses automatic padding where windows do not touch.
        const isTorn = 'auto_pad' in attributes! && attributes['auto_pad'] !== '';
        return { ...rest, attributes: isTorn ? { ...attributes, strides: attributes['kernel_shape']! } : attributes! };
      },
    },
  },
};
/** Every operator of the gradient table in each of its forms, with what makes cases of it; a row without cases fails. */
export const gradientRows: Row[] = Object.keys(gradients).flatMap((operator) =>
  Object.entries({ [operator]: { forms: {}, makeCase: cases[operator] }, ...otherForms[operator] }).map(
    ([title, form]) => ({ title, operator, ...form }),
  ),
);

/** The node, its gradients with respect to all inputs, and numbers to try them with. */
export function setUp(operator: string, example: Case, uniform: () => number, forms: GradientForms): Differentiated {
  const { inputs, integers, floats = [], condition, bounds = [], fixed = [], outputs = 1 } = example;
  const { attributes = {}, numbers = 'any', among = [] } = example;
  const graph = new GraphBuilder('test/');
  const names = inputs.map((shape, index) => graph.input(`x${index}`, shape));
  const trained = names.filter((_, position) => !fixed.includes(position));
  const constants = [
    ...(integers === undefined ? [] : [graph.integers(integers)]),
    ...floats.map((value) => graph.scalar(value)),
    ...bounds.map((list) => graph.integers(list)),
  ];
  const first = condition === undefined ? [] : [graph.emit('Greater', [graph.input('c', condition), graph.scalar(0)])];
  const ys = ['y', 'z', 'w'].slice(0, outputs);
  const given = [...first, ...names, ...constants];
  for (const { at, integers: whole, floats: parts, shape } of among)
    given.splice(at, 0, constant(graph, whole, parts, shape));
  const node = makeNode(operator, given, ys, attributes);
  graph.append(node);
  writeConvolutions(graph, graph.nodes.indexOf(node), forms);
  const seeds = new Map(ys.map((y, index) => [y, graph.input(`seed${index === 0 ? '' : index}`, graph.shapeOf(y))]));
  const found = differentiate(graph, [node], seeds, trained, forms);
  const feeds = new Map(names.map((name) => [name, draw(sizeOf(graph.shapeOf(name)), numbers, uniform)]));
  if (condition !== undefined) feeds.set('c', draw(sizeOf(condition), 'any', uniform));
  for (const seed of seeds.values()) feeds.set(seed, draw(sizeOf(graph.shapeOf(seed)), 'any', uniform));
  return {
    graph,
    names: trained,
    seeds,
    found,
    feeds,
    ...(forms.blocks === undefined ? {} : { blocks: forms.blocks }),
  };
}

function constant(graph: GraphBuilder, integers?: number[], floats?: number[], shape?: number[]): string {
  if (integers !== undefined) {
    return graph.initializer(int64Tensor(`integers${graph.initializers.length}`, integers, shape ?? [integers.length]));
  }
  return floats === undefined ? '' : graph.floats(Float32Array.from(floats), shape ?? [floats.length]);
}

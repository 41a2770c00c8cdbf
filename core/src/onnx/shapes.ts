import type { NodeProto } from './gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from './gen/onnx/onnx_pb.ts';
import { OnnxError } from './errors.ts';
import { requireInputs } from './arity.ts';
import { movingShapes } from './moving-shapes.ts';
import { findAttribute, intAttribute, intsAttribute } from './nodes.ts';
import { hasInput, misfit, requiredIntegers } from './shape-rule.ts';
import type { ShapeRule, ShapeSite, ValueType } from './shape-rule.ts';
import { transposedWindowsOf, windowsOf } from './windows.ts';
import { broadcastShape, sameShape, sizeOf, wrapAxis } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';

/** Shape and element type of each output of the node; throws OnnxError for an operator without a row. */
export function inferTypes(site: ShapeSite): ValueType[] {
  const rule = Object.hasOwn(shapeRules, site.node.opType) ? shapeRules[site.node.opType] : undefined;
  if (rule === undefined) {
    throw new OnnxError(`no shape rule for operator ${site.node.opType} of node '${site.node.name}'; leave it out`);
  }
  requireInputs(site.node);
  const types = rule(site);
  const odd = types.find(({ shape }) => !shape.every(isSize) || !Number.isSafeInteger(sizeOf(shape)));
  return odd === undefined ? types : misfit(site.node, site.inputs);
}

const isSize = (size: number | undefined): boolean => Number.isSafeInteger(size) && size! >= 0;

const { BOOL, FLOAT, INT64 } = TensorProto_DataType;

const same: ShapeRule = ({ inputs }) => [inputs[0]!];

const broadcast: ShapeRule = ({ node, inputs }) => {
  const shape = inputs.map((input) => input.shape).reduce((a, b) => broadcastShape(a, b) ?? misfit(node, inputs));
  return [{ shape, elemType: inputs[0]!.elemType }];
};

const comparison: ShapeRule = (site) => broadcast(site).map(({ shape }) => ({ shape, elemType: BOOL }));

const reduction: ShapeRule = (site) => {
  const { node, inputs } = site;
  const [{ shape, elemType }] = [inputs[0]!];
  const axes = reducedAxes(site);
  const keep = intAttribute(node, 'keepdims', 1) === 1;
  const reduced = shape.flatMap((size, axis) => (axes.includes(axis) ? (keep ? [1] : []) : [size]));
  return [{ shape: reduced, elemType }];
};

const pooling: ShapeRule = ({ node, inputs }) => {
  const { shape, elemType } = inputs[0]!;
  const pooled = [...shape.slice(0, 2), ...windowsOf(node, shape.slice(2)).output];
  return [
    { shape: pooled, elemType },
    { shape: pooled, elemType: INT64 },
  ];
};

/** One row per operator that the builder meets in models or writes itself. */
const shapeRules: Readonly<Record<string, ShapeRule>> = {
  ...movingShapes,
  ...Object.fromEntries(
    [
      'Identity',
      'Neg',
      'Relu',
      'LeakyRelu',
      'Sigmoid',
      'Tanh',
      'Exp',
      'Log',
      'Sqrt',
      'Abs',
      'Sign',
      'Softplus',
      'Softsign',
      'Reciprocal',
      'Sin',
      'Cos',
      'Erf',
      'Elu',
      'Selu',
      'HardSigmoid',
      'HardSwish',
      'PRelu',
      'Clip',
      'Floor',
      'Ceil',
      'Round',
      'Not',
      'InstanceNormalization',
      'BatchNormalization',
      'ScatterND',
      'CumSum',
    ].map((operator) => [operator, same]),
  ),
  Softmax: same,
  LogSoftmax: same,
  ScatterElements: same,
  Dropout: ({ inputs }) => [inputs[0]!, { shape: inputs[0]!.shape, elemType: BOOL }],
  Add: broadcast,
  Sub: broadcast,
  Mul: broadcast,
  Div: broadcast,
  Pow: broadcast,
  Max: broadcast,
  Min: broadcast,
  Mod: broadcast,
  Greater: comparison,
  Less: comparison,
  GreaterOrEqual: comparison,
  LessOrEqual: comparison,
  And: comparison,
  Or: comparison,
  Xor: comparison,
  Equal: comparison,
  Where: (site) =>
    broadcast({ ...site, inputs: site.inputs }).map(({ shape }) => ({ shape, elemType: site.inputs[1]!.elemType })),
  Cast: ({ node, inputs }) => [{ shape: inputs[0]!.shape, elemType: intAttribute(node, 'to', 0) }],
  MatMul: ({ node, inputs }) => {
    const [a, b] = [inputs[0]!.shape, inputs[1]!.shape];
    const left = a.length === 1 ? [1, ...a] : a;
    const right = b.length === 1 ? [...b, 1] : b;
    const batch = broadcastShape(left.slice(0, -2), right.slice(0, -2));
    if (batch === undefined || left.at(-1) !== right.at(-2)) return misfit(node, inputs);
    const rows = a.length === 1 ? [] : [left.at(-2)!];
    const columns = b.length === 1 ? [] : [right.at(-1)!];
    return [{ shape: [...batch, ...rows, ...columns], elemType: inputs[0]!.elemType }];
  },
  Gemm: ({ node, inputs }) => {
    const [a, b] = [inputs[0]!.shape, inputs[1]!.shape];
    const [rows, inner] = intAttribute(node, 'transA', 0) === 1 ? [a[1]!, a[0]!] : [a[0]!, a[1]!];
    const [depth, columns] = intAttribute(node, 'transB', 0) === 1 ? [b[1]!, b[0]!] : [b[0]!, b[1]!];
    if (inner !== depth || a.length !== 2 || b.length !== 2) return misfit(node, inputs);
    return [{ shape: [rows, columns], elemType: inputs[0]!.elemType }];
  },
  Conv: ({ node, inputs }) => {
    const [x, w] = [inputs[0]!.shape, inputs[1]!.shape];
    if (x[1] !== w[1]! * intAttribute(node, 'group', 1)) return misfit(node, inputs);
    const { output } = windowsOf(node, x.slice(2), w.slice(2));
    return [{ shape: [x[0]!, w[0]!, ...output], elemType: inputs[0]!.elemType }];
  },
  ConvTranspose: ({ node, inputs }) => {
    const [x, w] = [inputs[0]!.shape, inputs[1]!.shape];
    const { output } = transposedWindowsOf(node, x.slice(2), w.slice(2));
    return [{ shape: [x[0]!, w[1]! * intAttribute(node, 'group', 1), ...output], elemType: inputs[0]!.elemType }];
  },
  MaxPool: pooling,
  AveragePool: pooling,
  MaxUnpool: (site) => [{ shape: requiredIntegers(site, 2), elemType: site.inputs[0]!.elemType }],
  GlobalAveragePool: ({ inputs }) => {
    const { shape, elemType } = inputs[0]!;
    return [{ shape: shape.map((size, axis) => (axis < 2 ? size : 1)), elemType }];
  },
  Reshape: (site) => {
    const { shape, elemType } = site.inputs[0]!;
    const keepsZero = intAttribute(site.node, 'allowzero', 0) === 1;
    const wanted = requiredIntegers(site, 1).map((size, axis) => (size === 0 && !keepsZero ? shape[axis]! : size));
    const known = sizeOf(wanted.filter((size) => size !== -1));
    const reshaped = wanted.map((size) => (size === -1 ? sizeOf(shape) / known : size));
    if (sizeOf(reshaped) !== sizeOf(shape) || !reshaped.every(Number.isInteger)) return misfit(site.node, site.inputs);
    return [{ shape: reshaped, elemType }];
  },
  Flatten: ({ node, inputs }) => {
    const { shape, elemType } = inputs[0]!;
    const axis = wrapAxis(intAttribute(node, 'axis', 1), shape.length);
    return [{ shape: [sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis))], elemType }];
  },
  Transpose: ({ node, inputs }) => {
    const { shape, elemType } = inputs[0]!;
    return [{ shape: permutationOf(node, shape.length).map((axis) => shape[axis]!), elemType }];
  },
  Squeeze: (site) => {
    const { shape, elemType } = site.inputs[0]!;
    const given = hasInput(site.node, 1) ? requiredIntegers(site, 1) : undefined;
    const axes = given?.map((axis) => wrapAxis(axis, shape.length));
    return [
      { shape: shape.filter((size, axis) => (axes === undefined ? size !== 1 : !axes.includes(axis))), elemType },
    ];
  },
  Unsqueeze: (site) => {
    const { shape, elemType } = site.inputs[0]!;
    const added = requiredIntegers(site, 1);
    const rank = shape.length + added.length;
    const axes = added.map((axis) => wrapAxis(axis, rank));
    let next = 0;
    return [{ shape: Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? 1 : shape[next++]!)), elemType }];
  },
  Expand: (site) => {
    const { shape, elemType } = site.inputs[0]!;
    const wanted = broadcastShape(shape, requiredIntegers(site, 1));
    return [{ shape: wanted ?? misfit(site.node, site.inputs), elemType }];
  },
  ...Object.fromEntries(
    ['Sum', 'Mean', 'Max', 'Min', 'Prod', 'L1', 'L2', 'SumSquare', 'LogSum', 'LogSumExp'].map((name) => [
      `Reduce${name}`,
      reduction,
    ]),
  ),
  LayerNormalization: ({ node, inputs }) => {
    const { shape, elemType } = inputs[0]!;
    const first = wrapAxis(intAttribute(node, 'axis', -1), shape.length);
    const statistic = { shape: shape.map((size, axis) => (axis >= first ? 1 : size)), elemType };
    return [inputs[0]!, statistic, statistic];
  },
  Gather: ({ node, inputs }) => {
    const { shape, elemType } = inputs[0]!;
    const axis = wrapAxis(intAttribute(node, 'axis', 0), shape.length);
    if (shape[axis] === undefined) return misfit(node, inputs);
    return [{ shape: [...shape.slice(0, axis), ...inputs[1]!.shape, ...shape.slice(axis + 1)], elemType }];
  },
  Split: (site) => {
    const { node } = site;
    const { shape, elemType } = site.inputs[0]!;
    const axis = wrapAxis(intAttribute(node, 'axis', 0), shape.length);
    if (shape[axis] === undefined) return misfit(node, site.inputs);
    const each = Math.ceil(shape[axis]! / node.output.length);
    const sizes = hasInput(node, 1)
      ? requiredIntegers(site, 1)
      : node.output.map((_, index) => Math.max(0, Math.min(each, shape[axis]! - index * each)));
    return sizes.map((length) => ({ shape: shape.map((size, at) => (at === axis ? length : size)), elemType }));
  },
  Concat: ({ node, inputs }) => {
    const { shape, elemType } = inputs[0]!;
    const along = wrapAxis(intAttribute(node, 'axis', 0), shape.length);
    const fits = inputs.every((input) => sameShape(without(input.shape, along), without(shape, along)));
    if (!fits || shape[along] === undefined) return misfit(node, inputs);
    const total = inputs.reduce((sum, input) => sum + input.shape[along]!, 0);
    return [{ shape: shape.map((size, axis) => (axis === along ? total : size)), elemType }];
  },
  OneHot: (site) => {
    const { shape } = site.inputs[0]!;
    const axis = wrapAxis(intAttribute(site.node, 'axis', -1), shape.length + 1);
    return [{ shape: shape.toSpliced(axis, 0, requiredIntegers(site, 1)[0]!), elemType: site.inputs[2]!.elemType }];
  },
  Shape: ({ node, inputs }) => {
    const { shape } = inputs[0]!;
    const named = shape.slice(intAttribute(node, 'start', 0), intAttribute(node, 'end', shape.length));
    return [{ shape: [named.length], elemType: INT64 }];
  },
  Size: () => [{ shape: [], elemType: INT64 }],
  Trilu: same,
  ConstantOfShape: (site) => {
    const value = findAttribute(site.node, 'value')?.t;
    return [{ shape: requiredIntegers(site, 0), elemType: value?.dataType ?? FLOAT }];
  },
  Range: (site) => {
    const [start, limit, step] = [0, 1, 2].map((position) => requiredIntegers(site, position)[0]!);
    const length = Math.max(0, Math.ceil((limit! - start!) / step!));
    return [{ shape: [length], elemType: site.inputs[0]!.elemType }];
  },
};

export function permutationOf(node: NodeProto, rank: number): number[] {
  return intsAttribute(node, 'perm') ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
}

/** Axes a reduction removes, wherever the operator set in use keeps them; all of them by default. */
export function reducedAxes(site: ShapeSite): number[] {
  const rank = site.inputs[0]!.shape.length;
  const given = intsAttribute(site.node, 'axes') ?? (hasInput(site.node, 1) ? requiredIntegers(site, 1) : []);
  const all = Array.from({ length: rank }, (_, axis) => axis);
  if (given.length > 0) return given.map((axis) => wrapAxis(axis, rank));
  return intAttribute(site.node, 'noop_with_empty_axes', 0) === 1 ? [] : all;
}

function without(shape: Shape, axis: number): Shape {
  return shape.filter((_, index) => index !== axis);
}

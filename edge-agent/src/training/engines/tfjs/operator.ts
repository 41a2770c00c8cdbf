import type { GraphBuilder, NodeProto } from '@commonweight/core';
import type * as Tf from '@tensorflow/tfjs-core';
import { EngineError } from '../../engine.ts';

export type TfLibrary = typeof Tf;
export type { Tensor } from '@tensorflow/tfjs-core';

/** ONNX's numbers of element types. */
export const TYPES: Readonly<Record<number, 'float32' | 'int32' | 'bool'>> = {
  1: 'float32',
  2: 'int32',
  3: 'int32',
  5: 'int32',
  6: 'int32',
  7: 'int32',
  9: 'bool',
};

/** One node as it is computed: shapes and constants are known from the graph. */
export interface OperatorSite {
  tf: TfLibrary;
  node: NodeProto;
  graph: GraphBuilder;
  /** The inputs; undefined where an optional one is left out. */
  inputs: readonly (Tf.Tensor | undefined)[];
}

/** Computes the outputs of a node by operators that TensorFlow.js has gradients of. */
export type Operator = (site: OperatorSite) => Tf.Tensor | Tf.Tensor[];
export type OperatorTable = Readonly<Record<string, Operator>>;

/** An input that has to be there. */
export function input({ node, inputs }: OperatorSite, position: number): Tf.Tensor {
  const tensor = inputs[position];
  if (tensor === undefined) throw new EngineError(`node '${node.name}' (${node.opType}) lacks its input ${position}`);
  return tensor;
}

export const outputShape = ({ graph, node }: OperatorSite, position = 0): number[] => [
  ...graph.shapeOf(node.output[position]!),
];

/** The numbers of a constant input. */
export function integers({ graph, node }: OperatorSite, position: number): readonly number[] | undefined {
  return graph.constantIntegers(node.input[position] ?? '');
}

export function floats({ graph, node }: OperatorSite, position: number): readonly number[] | undefined {
  return graph.constantFloats(node.input[position] ?? '');
}

/** This engine cannot do it; others may. */
export function lacks({ node }: OperatorSite, what: string): never {
  throw new EngineError(`tfjs does not compute ${node.opType} ${what} (node '${node.name}'); ort-cpu does`);
}

/** Stretches a tensor without leaving the sum over what was stretched to an operator that does not undo it. */
export function stretched({ tf }: Pick<OperatorSite, 'tf'>, x: Tf.Tensor, shape: readonly number[]): Tf.Tensor {
  if (x.shape.length === shape.length && x.shape.every((size, axis) => size === shape[axis])) return x;
  if (x.dtype === 'bool') return tf.logicalOr(x, tf.zeros([...shape], 'bool'));
  return tf.add(x, tf.zeros([...shape], x.dtype));
}

/** A function that has no slope anywhere, such as a comparison: TensorFlow.js would refuse to go back through it. */
export function flat(
  { tf }: Pick<OperatorSite, 'tf'>,
  of: (...x: Tf.Tensor[]) => Tf.Tensor,
  ...given: Tf.Tensor[]
): Tf.Tensor {
  const compute = tf.customGrad((...x) => ({
    value: of(...(x.slice(0, given.length) as Tf.Tensor[])),
    gradFunc: () => given.map((one) => tf.zeros(one.shape, 'float32')),
  }));
  return compute(...given);
}

export const wrap = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

/** With the axis moved to the end, and back again. */
export function alongLast(
  { tf }: Pick<OperatorSite, 'tf'>,
  x: Tf.Tensor,
  axis: number,
  compute: (x: Tf.Tensor) => Tf.Tensor,
): Tf.Tensor {
  const last = x.rank - 1;
  if (axis === last) return compute(x);
  const perm = Array.from({ length: x.rank }, (_, at) => (at === axis ? last : at === last ? axis : at));
  return tf.transpose(compute(tf.transpose(x, perm)), perm);
}

import { NotTrainableError } from '../onnx/errors.ts';
import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import type { GradientForms } from './forms.ts';
import { sameShape, stretchedAxes } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';

/** One node seen from behind: the graph to write into and the loss's gradient with respect to its outputs. */
export interface GradientSite {
  graph: GraphBuilder;
  node: NodeProto;
  /** Of the first output. */
  gradient: string;
  /** Of each output; undefined where the loss does not depend on it. */
  gradients: readonly (string | undefined)[];
  forms: GradientForms;
}

/** Writes the gradient of one input; called only when somebody needs it. */
export type InputGradient = () => string;

/**
 * One entry per input, in order; an input without one (a shape, an axis) never has a gradient. `fixed` is an input that stays as it is
 * while others are trained, such as running statistics.
 */
export type GradientRule = (site: GradientSite) => readonly (InputGradient | 'fixed' | undefined)[];

export type GradientTable = Readonly<Record<string, GradientRule>>;

/** Sums a gradient over the axes that broadcasting had stretched. */
export function reduceTo(graph: GraphBuilder, gradient: string, shape: Shape): string {
  const from = graph.shapeOf(gradient);
  const axes = stretchedAxes(shape, from);
  if (axes.length === 0) return reshapeTo(graph, gradient, shape);
  const keepsRank = shape.length === from.length;
  const sum = graph.emit('ReduceSum', [gradient, graph.integers(axes)], { keepdims: keepsRank ? 1 : 0 });
  return reshapeTo(graph, sum, shape);
}

export function reshapeTo(graph: GraphBuilder, value: string, shape: Shape): string {
  if (sameShape(graph.shapeOf(value), shape)) return value;
  return graph.emit('Reshape', [value, graph.integers(shape)]);
}

export function transpose(graph: GraphBuilder, value: string, perm: readonly number[]): string {
  return graph.emit('Transpose', [value], { perm });
}

export function inputShape({ graph, node }: GradientSite, position: number): Shape {
  return graph.shapeOf(node.input[position]!);
}

export function zeros(graph: GraphBuilder, shape: Shape): string {
  return graph.emit('Expand', [graph.scalar(0), graph.integers(shape)]);
}

/** Multiplies along one axis by a constant matrix [size of the axis, new size]. */
export function timesAlong(graph: GraphBuilder, value: string, axis: number, matrix: string): string {
  const rank = graph.shapeOf(value).length;
  const swap = Array.from({ length: rank }, (_, at) => (at === axis ? rank - 1 : at === rank - 1 ? axis : at));
  const isLast = axis === rank - 1;
  const product = graph.emit('MatMul', [isLast ? value : transpose(graph, value, swap), matrix]);
  return isLast ? product : transpose(graph, product, swap);
}

/** The gradient cannot be written for this one node; says what is in the way and what mends it. */
export function refuse(node: NodeProto, what: string): never {
  throw new NotTrainableError(`${node.opType} of node '${node.name}' ${what}`, {
    node: node.name,
    operator: node.opType,
  });
}

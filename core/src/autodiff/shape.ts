import { intAttribute } from '../onnx/nodes.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { permutationOf } from '../onnx/shapes.ts';
import { cutsOf } from '../onnx/slices.ts';
import type { Cut } from '../onnx/slices.ts';
import { wrapAxis } from '../tensor/shape.ts';
import { inputShape, reduceTo, reshapeTo, transpose, zeros } from './rule.ts';
import type { GradientRule, GradientSite, GradientTable } from './rule.ts';

const backToInput: GradientRule = (site) => [() => reshapeTo(site.graph, site.gradient, inputShape(site, 0))];

/** Gradients of operators that only move numbers. */
export const shape: GradientTable = {
  Reshape: backToInput,
  Flatten: backToInput,
  Squeeze: backToInput,
  Unsqueeze: backToInput,
  Transpose: (site) => [
    () => {
      const perm = permutationOf(site.node, inputShape(site, 0).length);
      return transpose(
        site.graph,
        site.gradient,
        perm.map((_, axis) => perm.indexOf(axis)),
      );
    },
  ],
  Expand: ({ graph, node, gradient }) => [() => reduceTo(graph, gradient, graph.shapeOf(node.input[0]!))],
  // Every piece goes back to its place; a piece that nobody reads brings nothing.
  Split: (site) => {
    const { graph, node, gradients } = site;
    const axis = wrapAxis(intAttribute(node, 'axis', 0), inputShape(site, 0).length);
    const piece = (name: string, index: number): string => gradients[index] ?? zeros(graph, graph.shapeOf(name));
    return [() => graph.emit('Concat', node.output.map(piece), { axis })];
  },
  // Zeros are put back between and around what was cut out.
  Slice: (site) => [
    () => cutsOf(site.graph.site(site.node)).reduce((part, cut) => putBack(site, part, cut), site.gradient),
  ],
  Concat: (site) => {
    const { graph, node, gradient } = site;
    const axis = wrapAxis(intAttribute(node, 'axis', 0), inputShape(site, 0).length);
    let end = 0;
    return node.input.map((_, position) => {
      const start = end;
      end += inputShape(site, position)[axis]!;
      const bounds = [start, end, axis];
      return () => graph.emit('Slice', [gradient, ...bounds.map((bound) => graph.integers([bound]))]);
    });
  },
};

/** Undoes the cut along one axis: what was stepped over gets zeros. */
function putBack(site: GradientSite, part: string, { axis, start, step, length }: Cut): string {
  const { graph } = site;
  const whole = inputShape(site, 0)[axis]!;
  if (length === 0) return zeros(graph, resized(graph, part, axis, whole));
  const stride = Math.abs(step);
  const forwards = step > 0 ? part : reversed(graph, part, axis);
  const first = step > 0 ? start : start + (length - 1) * step;
  const spread = stride === 1 ? forwards : spreadOut(graph, forwards, axis, stride);
  const covered = graph.shapeOf(spread)[axis]!;
  const after = whole - first - covered;
  const parts = [first, after].map((size) => (size > 0 ? [zeros(graph, resized(graph, spread, axis, size))] : []));
  const joined = [...parts[0]!, spread, ...parts[1]!];
  const filled = joined.length > 1 ? graph.emit('Concat', joined, { axis }) : spread;
  // The zeros behind the last number may reach beyond the end.
  return after < 0 ? sliced(graph, filled, axis, 0, whole, 1) : filled;
}

const resized = (graph: GraphBuilder, value: string, axis: number, size: number): number[] =>
  graph.shapeOf(value).map((other, at) => (at === axis ? size : other));

function sliced(graph: GraphBuilder, value: string, axis: number, start: number, end: number, step: number): string {
  return graph.emit('Slice', [value, ...[start, end, axis, step].map((number) => graph.integers([number]))]);
}

const reversed = (graph: GraphBuilder, value: string, axis: number): string =>
  sliced(graph, value, axis, -1, -graph.shapeOf(value)[axis]! - 1, -1);

/** Puts stride − 1 zeros behind each number. */
function spreadOut(graph: GraphBuilder, value: string, axis: number, stride: number): string {
  const shape = graph.shapeOf(value);
  const apart = [...shape.slice(0, axis + 1), 1, ...shape.slice(axis + 1)];
  const column = reshapeTo(graph, value, apart);
  const gap = zeros(graph, resized(graph, column, axis + 1, stride - 1));
  const both = graph.emit('Concat', [column, gap], { axis: axis + 1 });
  return reshapeTo(graph, both, resized(graph, value, axis, shape[axis]! * stride));
}

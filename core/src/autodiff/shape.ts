import { intAttribute } from '../onnx/nodes.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { permutationOf, slicedAxes } from '../onnx/shapes.ts';
import { sizeOf, wrapAxis } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';
import { inputShape, reduceTo, reshapeTo, transpose } from './rule.ts';
import type { GradientRule, GradientTable } from './rule.ts';

const zeros = (graph: GraphBuilder, shape: Shape): string =>
  graph.emit('Expand', [graph.scalar(0), graph.integers(shape)]);

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
  // Zeros are put back around what was cut out. Steps other than one are refused by the shape rule.
  Slice: (site) => [
    () => {
      const { graph, node, gradient } = site;
      const shape = inputShape(site, 0);
      const { axes, starts } = slicedAxes(graph.site(node));
      let whole = gradient;
      for (const [index, axis] of axes.entries()) {
        const inner = graph.shapeOf(whole);
        const before = starts[index]!;
        const after = shape[axis]! - before - inner[axis]!;
        const filling = (size: number): string[] =>
          size === 0
            ? []
            : [
                zeros(
                  graph,
                  inner.map((other, at) => (at === axis ? size : other)),
                ),
              ];
        const parts = [...filling(before), whole, ...filling(after)];
        if (parts.length > 1) whole = graph.emit('Concat', parts, { axis });
      }
      return whole;
    },
  ],
  // Rows that were taken more than once get the sum.
  Gather: (site) => [
    () => {
      const { graph, node, gradient } = site;
      const shape = inputShape(site, 0);
      const axis = wrapAxis(intAttribute(node, 'axis', 0), shape.length);
      const places = graph.shapeOf(node.input[1]!);
      const count = sizeOf(places);
      const others = shape.filter((_, at) => at !== axis);
      // The gathered axes come first, so that one scatter of whole rows does it.
      const rank = graph.shapeOf(gradient).length;
      const moved = Array.from({ length: places.length }, (_, at) => axis + at);
      const rest = Array.from({ length: rank }, (_, at) => at).filter((at) => !moved.includes(at));
      const rows = reshapeTo(graph, transpose(graph, gradient, [...moved, ...rest]), [count, ...others]);
      const size = graph.integers([shape[axis]!]);
      const raw = reshapeTo(graph, node.input[1]!, [count, 1]);
      const isNegative = graph.emit('Less', [raw, graph.integers([0])]);
      const index = graph.emit('Where', [isNegative, graph.emit('Add', [raw, size]), raw]);
      const scattered = graph.emit('ScatterND', [zeros(graph, [shape[axis]!, ...others]), index, rows], {
        reduction: 'add',
      });
      const back = Array.from({ length: shape.length }, (_, at) => (at === axis ? 0 : at < axis ? at + 1 : at));
      return axis === 0 ? scattered : transpose(graph, scattered, back);
    },
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

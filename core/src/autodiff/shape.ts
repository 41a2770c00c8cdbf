import { intAttribute } from '../onnx/nodes.ts';
import { permutationOf } from '../onnx/shapes.ts';
import { wrapAxis } from '../tensor/shape.ts';
import { inputShape, reshapeTo, transpose } from './rule.ts';
import type { GradientRule, GradientTable } from './rule.ts';

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

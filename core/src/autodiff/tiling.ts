import { intAttribute, stringAttribute } from '../onnx/nodes.ts';
import { padMatrix, resizedAxes, resizeMatrix } from '../onnx/resampling.ts';
import type { AxisMatrix } from '../onnx/resampling.ts';
import { inputShape, refuse, reshapeTo, timesAlong } from './rule.ts';
import type { GradientSite, GradientTable } from './rule.ts';

/** Gradients of operators that make a tensor larger or smaller along its axes. */
export const tiling: GradientTable = {
  // Each repetition sends its gradient back to the one original.
  Tile: (site) => [
    () => {
      const { graph, node, gradient } = site;
      const repeats = graph.constantIntegers(node.input[1]!)!;
      const shape = inputShape(site, 0);
      const apart = shape.flatMap((size, axis) => [repeats[axis]!, size]);
      const axes = repeats.flatMap((count, axis) => (count === 1 ? [] : [2 * axis]));
      if (axes.length === 0) return gradient;
      const split = reshapeTo(graph, gradient, apart);
      return reshapeTo(graph, graph.emit('ReduceSum', [split, graph.integers(axes)], { keepdims: 0 }), shape);
    },
  ],
  Pad: (site) => [
    () => {
      const { graph, node, gradient } = site;
      const shape = inputShape(site, 0);
      const pads = graph.constantIntegers(node.input[1]!)!;
      const mode = stringAttribute(node, 'mode', 'constant');
      // A pad taken back is a negative one, and the other way round.
      if (mode === 'constant') return graph.emit('Pad', [gradient, graph.integers(pads.map((pad) => -pad))]);
      return shape.reduce((part, size, axis) => {
        const [before, after] = [pads[axis]!, pads[axis + shape.length]!];
        if (before < 0 || after < 0) return refuse(node, `crops in mode ${mode}; crop by a Slice instead`);
        return before + after === 0 ? part : backThrough(site, part, axis, padMatrix(node, mode, size, before, after));
      }, gradient);
    },
  ],
  Resize: (site) => [
    () => {
      const { graph, node, gradient } = site;
      const shape = inputShape(site, 0);
      const { sizes, scales } = resizedAxes(graph.site(node));
      return shape.reduce((part, size, axis) => {
        if (sizes[axis] === size && scales[axis] === 1) return part;
        return backThrough(site, part, axis, resizeMatrix(node, size, sizes[axis]!, scales[axis]!));
      }, gradient);
    },
  ],
  // What a number was added to comes after it, so its gradient is summed from behind.
  CumSum: ({ graph, node, gradient }) => [
    () =>
      graph.emit('CumSum', [gradient, node.input[1]!], {
        exclusive: intAttribute(node, 'exclusive', 0),
        reverse: 1 - intAttribute(node, 'reverse', 0),
      }),
  ],
  Trilu: ({ graph, node, gradient }) => [
    () => graph.emit('Trilu', [gradient, ...node.input.slice(1)], { upper: intAttribute(node, 'upper', 1) }),
  ],
};

function backThrough(
  { graph }: GradientSite,
  gradient: string,
  axis: number,
  { rows, columns, values }: AxisMatrix,
): string {
  return timesAlong(graph, gradient, axis, graph.floats(values, [rows, columns]));
}

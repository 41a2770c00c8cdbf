import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { intAttribute } from '../onnx/nodes.ts';
import { windowsOf } from '../onnx/windows.ts';
import type { Windows } from '../onnx/windows.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';
import { spread } from './convolution.ts';
import { inputShape, refuse, reshapeTo, zeros } from './rule.ts';
import type { GradientSite, GradientTable } from './rule.ts';

/** Gradients of pooling. */
export const pooling: GradientTable = {
  MaxPool: (site) => [() => maxPoolGradient(site)],
  AveragePool: (site) => [
    () => {
      const { graph, node, gradient } = site;
      if (intAttribute(node, 'ceil_mode', 0) === 1 && intAttribute(node, 'count_include_pad', 0) === 1) {
        refuse(node, 'rounds up and counts padding, which runtimes disagree on; drop one of the two');
      }
      const image = inputShape(site, 0);
      const windows = windowsOf(node, image.slice(2));
      const shares = graph.emit('Div', [gradient, windowSizes(site, windows)]);
      // Channels are alike, so they join the batch and one kernel of ones serves them all.
      const [planes, ...spatial] = [image[0]! * image[1]!, ...image.slice(2)];
      const stacked = reshapeTo(graph, shares, [planes, 1, ...windows.output]);
      const ones = graph.floats(new Float32Array(sizeOf(windows.kernel)).fill(1), [1, 1, ...windows.kernel]);
      return reshapeTo(graph, spread(graph, stacked, ones, windows, [planes, 1, ...spatial], 1), image);
    },
  ],
  GlobalAveragePool: (site) => [
    () => {
      const { graph, gradient } = site;
      const image = inputShape(site, 0);
      const share = graph.emit('Div', [gradient, graph.scalar(sizeOf(image.slice(2)))]);
      return graph.emit('Expand', [share, graph.integers(image)]);
    },
  ],
};

function maxPoolGradient(site: GradientSite): string {
  const { graph, node, gradient } = site;
  const image = inputShape(site, 0);
  const windows = windowsOf(node, image.slice(2));
  const indices = graph.extraOutput(node, 1);
  if (!windowsAreApart(windows, intAttribute(node, 'ceil_mode', 0))) return scatter(graph, gradient, indices, image);
  return graph.emit('MaxUnpool', [gradient, indices, graph.integers(image)], {
    kernel_shape: windows.kernel,
    strides: windows.strides,
  });
}

/** Apart windows give each number of the image one place to get a gradient from, so no sum is needed. */
function windowsAreApart({ kernel, strides, dilations, padsBefore, padsAfter }: Windows, ceilMode: number): boolean {
  const isPadded = [...padsBefore, ...padsAfter].some((pad) => pad !== 0);
  return !isPadded && ceilMode === 0 && kernel.every((size, axis) => (size - 1) * dilations[axis]! < strides[axis]!);
}

function scatter(graph: GraphBuilder, gradient: string, indices: string, image: Shape): string {
  const [count, total] = [sizeOf(graph.shapeOf(gradient)), sizeOf(image)];
  const [flatIndices, flatGradient] = [reshapeTo(graph, indices, [count]), reshapeTo(graph, gradient, [count])];
  const sums = graph.emit('ScatterElements', [zeros(graph, [total]), flatIndices, flatGradient], {
    axis: 0,
    reduction: 'add',
  });
  return reshapeTo(graph, sums, image);
}

/** How many numbers each window averages: fewer at the border when padding does not count. */
function windowSizes({ graph, node }: GradientSite, windows: Windows): string {
  const image = graph.shapeOf(node.input[0]!).slice(2);
  const countsPadding = intAttribute(node, 'count_include_pad', 0) === 1;
  const perAxis = image.map((size, axis) => {
    const [before, after] = [windows.padsBefore[axis]!, windows.padsAfter[axis]!];
    const [low, high] = countsPadding ? [-before, size + after] : [0, size];
    return Array.from({ length: windows.output[axis]! }, (_, step) => {
      const start = step * windows.strides[axis]! - before;
      const places = Array.from({ length: windows.kernel[axis]! }, (__, tap) => start + tap * windows.dilations[axis]!);
      return places.filter((place) => place >= low && place < high).length;
    });
  });
  const sizes = perAxis.reduce((grid, counts) => grid.flatMap((size) => counts.map((count) => size * count)), [1]);
  return graph.floats(Float32Array.from(sizes), [1, 1, ...windows.output]);
}

import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
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
  MaxPool: (site) => [() => (site.forms.pooling === 'comparison' ? byComparison(site) : byPlaces(site))],
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

function byPlaces(site: GradientSite): string {
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

/** Below any number that an image has. */
const LOWEST = -3.4e38;

/**
 * Takes every window apart into its numbers (a convolution with one filter for each), marks the first that equals the largest, and sends
 * the gradient back to it.
 */
function byComparison(site: GradientSite): string {
  const { graph, node, gradient } = site;
  const image = inputShape(site, 0);
  const windows = windowsOf(node, image.slice(2));
  const { kernel, strides, dilations, output } = windows;
  const [planes, taps, spatial] = [image[0]! * image[1]!, sizeOf(kernel), image.slice(2)];
  const filters = graph.floats(identity(taps), [taps, 1, ...kernel]);
  const perTap = graph.emit('Conv', [lowestAround(site, windows, [planes, 1, ...spatial]), filters], {
    kernel_shape: kernel,
    strides,
    dilations,
  });
  const largest = reshapeTo(graph, node.output[0]!, [planes, 1, ...output]);
  const marks = graph.emit('Cast', [graph.emit('Equal', [perTap, largest])], { to: TensorProto_DataType.FLOAT });
  // A mark minus all marks before it is 1 at the first alone.
  const first = identity(taps).map((one, at) => (at % taps < Math.floor(at / taps) ? -1 : one));
  const sole = graph.emit('Conv', [marks, graph.floats(first, [taps, taps, ...kernel.map(() => 1)])]);
  const share = graph.emit('Mul', [graph.emit('Relu', [sole]), reshapeTo(graph, gradient, [planes, 1, ...output])]);
  return reshapeTo(graph, spread(graph, share, filters, windows, [planes, 1, ...spatial], 1), image);
}

const identity = (size: number): Float32Array =>
  Float32Array.from({ length: size * size }, (_, at) => (at % size === Math.floor(at / size) ? 1 : 0));

/** The planes with the border that windows reach into, which is never the largest. */
function lowestAround({ graph, node }: GradientSite, windows: Windows, shape: Shape): string {
  const planes = reshapeTo(graph, node.input[0]!, shape);
  const { kernel, strides, dilations, padsBefore, output } = windows;
  const after = output.map((size, axis) => {
    const end = (size - 1) * strides[axis]! + (kernel[axis]! - 1) * dilations[axis]! + 1;
    return Math.max(0, end - padsBefore[axis]! - shape[axis + 2]!);
  });
  if ([...padsBefore, ...after].every((pad) => pad === 0)) return planes;
  return graph.emit('Pad', [planes, graph.integers([0, 0, ...padsBefore, 0, 0, ...after]), graph.scalar(LOWEST)]);
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

import { intAttribute } from '../onnx/nodes.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { transposedWindowsOf, windowsOf } from '../onnx/windows.ts';
import type { Windows } from '../onnx/windows.ts';
import type { Shape } from '../tensor/shape.ts';
import { blockedImageGradient, blockedKernelGradient, blockedShapes, writeBlocked } from './blocked-convolution.ts';
import type { GradientForms } from './forms.ts';
import { matrixImageGradient, matrixKernelGradient, sightOf, writeAsMatrices } from './matrix-convolution.ts';
import { inputShape, reshapeTo, transpose } from './rule.ts';
import type { GradientSite, GradientTable } from './rule.ts';

/** Gradients of convolutions, themselves convolutions. */
export const convolution: GradientTable = {
  Conv: (site) => {
    const { graph, node, gradient } = site;
    const [image, kernel] = [inputShape(site, 0), inputShape(site, 1)];
    const windows = windowsOf(node, image.slice(2), kernel.slice(2));
    const [x, w] = node.input as [string, string];
    const group = intAttribute(node, 'group', 1);
    const sight = sightOf(node, image, kernel, windows, site.forms);
    const blocked = blockedShapes(node, image, kernel, site.forms);
    const plainImage = (): string => spread(graph, gradient, w, windows, image, group);
    const plainKernel = (): string => kernelGradient(site, x, gradient, windows);
    return [
      () => {
        if (sight !== undefined) return matrixImageGradient(graph, gradient, w, image, sight);
        return (blocked && blockedImageGradient(graph, gradient, w, windows, blocked)) ?? plainImage();
      },
      () => {
        if (sight !== undefined) return matrixKernelGradient(graph, x, gradient, kernel, sight);
        return (blocked && blockedKernelGradient(graph, x, gradient, windows, blocked)) ?? plainKernel();
      },
      () => sumOfFilters(graph, gradient),
    ];
  },
  // The adjoint of a Conv, so image and gradient change places.
  ConvTranspose: (site) => {
    const { graph, node, gradient } = site;
    const [image, kernel] = [inputShape(site, 0), inputShape(site, 1)];
    const seen = transposedWindowsOf(node, image.slice(2), kernel.slice(2));
    // From the output's side the image is what a Conv would have made.
    const windows = { ...seen, output: image.slice(2) };
    return [
      () => {
        const long = graph.emit('Conv', [gradient, node.input[1]!], {
          kernel_shape: windows.kernel,
          strides: windows.strides,
          dilations: windows.dilations,
          pads: [...windows.padsBefore, ...windows.padsAfter],
          group: intAttribute(node, 'group', 1),
        });
        return trimmed(graph, long, image);
      },
      () => kernelGradient(site, gradient, node.input[0]!, windows),
      () => sumOfFilters(graph, gradient),
    ];
  },
};

/** Writes the convolutions of the forward pass, which begins at `start`, in the form that an engine wants. */
export function writeConvolutions(graph: GraphBuilder, start: number, forms: GradientForms): void {
  if (forms.blocks === undefined && forms.matrices !== true) return;
  graph.rewriteFrom(start, (node) => {
    if (node.opType !== 'Conv' || node.domain !== '') return false;
    const [image, kernel] = [graph.shapeOf(node.input[0]!), graph.shapeOf(node.input[1]!)];
    const windows = windowsOf(node, image.slice(2), kernel.slice(2));
    const sight = sightOf(node, image, kernel, windows, forms);
    if (sight !== undefined) writeAsMatrices(graph, node, windows, sight);
    const blocked = sight === undefined ? blockedShapes(node, image, kernel, forms) : undefined;
    return sight !== undefined || (blocked !== undefined && writeBlocked(graph, node, windows, blocked));
  });
}

function sumOfFilters(graph: GraphBuilder, gradient: string): string {
  const axes = graph.shapeOf(gradient).flatMap((_, axis) => (axis === 1 ? [] : [axis]));
  return graph.emit('ReduceSum', [gradient, graph.integers(axes)], { keepdims: 0 });
}

/** Sends each output number back through its window (ConvTranspose), onto exactly the image's shape. */
export function spread(
  graph: GraphBuilder,
  gradient: string,
  kernel: string,
  windows: Windows,
  image: Shape,
  group: number,
): string {
  const surplus = windows.output.map((size, axis) => {
    const extent = (windows.kernel[axis]! - 1) * windows.dilations[axis]! + 1;
    const covered = (size - 1) * windows.strides[axis]! + extent;
    return image[axis + 2]! + windows.padsBefore[axis]! + windows.padsAfter[axis]! - covered;
  });
  // Data behind the last window gets zeros; a window that ceil_mode let hang over is cut.
  const padsAfter = windows.padsAfter.map((pad, axis) => pad - Math.min(0, surplus[axis]!));
  return graph.emit('ConvTranspose', [gradient, kernel], {
    kernel_shape: windows.kernel,
    strides: windows.strides,
    dilations: windows.dilations,
    pads: [...windows.padsBefore, ...padsAfter],
    output_padding: surplus.map((size) => Math.max(0, size)),
    group,
  });
}

/**
 * Convolves the image with the output's gradient, batch and channels swapped, strides and dilations too.
 * Groups move into the channel axis, so one grouped Conv serves ordinary and depthwise layers alike.
 */
function kernelGradient(site: GradientSite, image: string, gradient: string, windows: Windows): string {
  const { graph, node } = site;
  const group = intAttribute(node, 'group', 1);
  const kernel = inputShape(site, 1);
  const swapped = graph.emit('Conv', [imagesAsChannels(graph, image, group), gradientAsKernels(graph, gradient)], {
    kernel_shape: windows.output,
    strides: windows.dilations,
    dilations: windows.strides,
    pads: [...windows.padsBefore, ...windows.padsAfter],
    group,
  });
  // Pixels that no window reached make the result longer than the kernel.
  return trimmed(graph, transpose(graph, swapped, swapFirstAxes(kernel.length)), kernel);
}

function trimmed(graph: GraphBuilder, value: string, shape: Shape): string {
  const long = shape.flatMap((size, axis) => (graph.shapeOf(value)[axis]! > size ? [axis] : []));
  if (long.length === 0) return value;
  const ends = long.map((axis) => shape[axis]!);
  const bounds = [long.map(() => 0), ends, long].map((numbers) => graph.integers(numbers));
  return graph.emit('Slice', [value, ...bounds]);
}

/** [N, g·c, ...] -> [c, g·N, ...] */
function imagesAsChannels(graph: GraphBuilder, value: string, group: number): string {
  const image = graph.shapeOf(value);
  const [batch, channels, ...spatial] = [image[0]!, image[1]! / group, ...image.slice(2)];
  if (group === 1) return transpose(graph, value, swapFirstAxes(image.length));
  const grouped = reshapeTo(graph, value, [batch, group, channels, ...spatial]);
  const turned = transpose(graph, grouped, [2, 1, 0, ...spatial.map((_, axis) => axis + 3)]);
  return reshapeTo(graph, turned, [channels, group * batch, ...spatial]);
}

/** [N, M, ...] -> [M, N, ...], which is grouped by filters already. */
function gradientAsKernels(graph: GraphBuilder, gradient: string): string {
  return transpose(graph, gradient, swapFirstAxes(graph.shapeOf(gradient).length));
}

function swapFirstAxes(rank: number): number[] {
  return Array.from({ length: rank }, (_, axis) => (axis < 2 ? 1 - axis : axis));
}

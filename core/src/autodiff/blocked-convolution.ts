/**
 * Convolutions in the layout that ONNX Runtime's CPU provider keeps for itself: [batch, channels / b, height, width, b], and kernels as
 * [filters / b, channels / b, height, width, b, b]. The runtime lays constants out so when it loads a model; here kernels change with each
 * step, so the graph does it: for that every reordering is written as one that moves whole blocks, or turns small squares over.
 */
import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { intAttribute } from '../onnx/nodes.ts';
import type { Windows } from '../onnx/windows.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';
import type { GradientForms } from './forms.ts';
import { once } from './once.ts';
import { reshapeTo, transpose } from './rule.ts';

export const blockedDomain = 'com.microsoft.nchwc';

/** How a convolution is written in blocks; `image` and `kernel` are the shapes of what goes in. */
interface BlockedShapes {
  block: number;
  image: Shape;
  kernel: Shape;
}

/** Shapes of a Conv of which all three convolutions, forward and back, can be in blocks; undefined where not. */
export function blockedShapes(
  node: NodeProto,
  image: Shape,
  kernel: Shape,
  forms: GradientForms,
): BlockedShapes | undefined {
  const { blocks: block } = forms;
  if (block === undefined || image.length !== 4 || intAttribute(node, 'group', 1) !== 1) return undefined;
  return kernel[0]! % block === 0 ? { block, image, kernel } : undefined;
}

const isWhole = (count: number, block: number): boolean => count >= block && count % block === 0;

/** An image in blocks; one of too few channels stays as it is. */
function inBlocks(graph: GraphBuilder, image: string, block: number): string {
  const shape = graph.shapeOf(image);
  if (shape[1]! < block) return image;
  return once(graph, `${image} in blocks`, () => graph.emitOf(blockedDomain, 'ReorderInput', [image], shape));
}

/** [filters, channels, height, width] in blocks. */
function kernelInBlocks(graph: GraphBuilder, kernel: string, block: number): string {
  return once(graph, `${kernel} as kernel`, () => {
    const shape = graph.shapeOf(kernel);
    const [filters, channels, taps] = [shape[0]!, shape[1]!, sizeOf(shape.slice(2))];
    const rows = reshapeTo(graph, kernel, [filters / block, block, channels * taps]);
    const last = transpose(graph, rows, [0, 2, 1]);
    if (channels < block || taps === 1) return reshapeTo(graph, last, shape);
    const apart = reshapeTo(graph, last, [(filters * channels) / block / block, block, taps, block]);
    return reshapeTo(graph, transpose(graph, apart, [0, 2, 1, 3]), shape);
  });
}

interface Sliding {
  pads: readonly number[];
  strides: readonly number[];
  dilations: readonly number[];
}

/** A convolution of an image by a kernel in blocks. The result is in blocks too; its shape is said as if it were not. */
function convolved(
  graph: GraphBuilder,
  inputs: readonly string[],
  kernel: Shape,
  shape: Shape,
  { pads, strides, dilations }: Sliding,
): string {
  const attributes = {
    kernel_shape: [...kernel],
    pads: [...pads],
    strides: [...strides],
    dilations: [...dilations],
    group: 1,
  };
  return graph.emitOf(blockedDomain, 'Conv', inputs, shape, attributes);
}

function outOfBlocks(graph: GraphBuilder, value: string, output?: string): string {
  const shape = graph.shapeOf(value);
  return graph.emitOf(
    blockedDomain,
    'ReorderOutput',
    [value],
    shape,
    { channels: shape[1]!, channels_last: 0 },
    output,
  );
}

/** Writes a Conv of the model in blocks, under its own output's name. False where it stays as it is. */
export function writeBlocked(graph: GraphBuilder, node: NodeProto, windows: Windows, shapes: BlockedShapes): boolean {
  const { block, image, kernel } = shapes;
  if (!isWhole(kernel[1]!, block) && kernel[1]! >= block) return false;
  const [x, w, ...bias] = node.input as [string, string];
  const wide = withColumns(graph, x, block, [...windows.padsBefore, ...windows.padsAfter]);
  const inputs = [inBlocks(graph, wide.image, block), kernelInBlocks(graph, w, block), ...bias];
  const shape = [image[0]!, kernel[0]!, ...windows.output];
  const value = convolved(graph, inputs, windows.kernel, shape, { ...windows, pads: wide.pads });
  outOfBlocks(graph, value, node.output[0]);
  return true;
}

/** The gradient of the image: the output's gradient convolved with the kernel, its taps in reverse, filters and channels swapped. */
export function blockedImageGradient(
  graph: GraphBuilder,
  gradient: string,
  kernel: string,
  windows: Windows,
  { block, image, kernel: shape }: BlockedShapes,
): string | undefined {
  const [filters, channels, ...sizes] = shape as [number, number, number, number];
  const { strides, dilations, padsBefore, output } = windows;
  const before = sizes.map((size, axis) => (size - 1) * dilations[axis]! - padsBefore[axis]!);
  const after = sizes.map(
    (size, axis) => image[axis + 2]! - output[axis]! + (size - 1) * dilations[axis]! - before[axis]!,
  );
  const isPlain = strides.every((stride) => stride === 1) && [...before, ...after].every((pad) => pad >= 0);
  if (!isPlain || !isWhole(channels, block) || !isWhole(filters, block)) return undefined;
  const taps = sizeOf(sizes);
  const [rows, columns] = [filters / block, channels / block];
  const squares = reshapeTo(graph, kernelInBlocks(graph, kernel, block), [rows * columns * taps, block, block]);
  const turned = reshapeTo(graph, transpose(graph, squares, [0, 2, 1]), [rows, columns, taps * block * block]);
  const swapped = rows === 1 || columns === 1 ? turned : transpose(graph, turned, [1, 0, 2]);
  const apart = reshapeTo(graph, swapped, [rows * columns, taps, block * block]);
  const reversed =
    taps === 1
      ? apart
      : graph.emit('Gather', [apart, graph.integers(Array.from({ length: taps }, (_, tap) => taps - 1 - tap))], {
          axis: 1,
        });
  const turnedKernel = reshapeTo(graph, reversed, [channels, filters, ...sizes]);
  const wide = withColumns(graph, gradient, block, [...before, ...after]);
  const sliding = { pads: wide.pads, strides: [1, 1], dilations };
  const inputs = [inBlocks(graph, wide.image, block), turnedKernel];
  return outOfBlocks(graph, convolved(graph, inputs, sizes, image, sliding));
}

/** The gradient of the kernel: the image convolved with the output's gradient, batch and channels swapped, strides and dilations too. */
export function blockedKernelGradient(
  graph: GraphBuilder,
  image: string,
  gradient: string,
  windows: Windows,
  { block, image: shape, kernel }: BlockedShapes,
): string | undefined {
  const [batch, channels, ...sizes] = shape as [number, number, number, number];
  const [filters, , ...taps] = kernel as [number, number, number, number];
  if (!isWhole(filters, block)) return undefined;
  // A batch smaller than a block is not laid out in blocks; a larger one is filled up with examples of zeros.
  const inner = batch < block ? 1 : block;
  const examples = Math.ceil(batch / inner) * inner;
  const { strides, dilations, padsBefore, output } = windows;
  // The border is written beforehand: at the edges the kernels are slow, and here almost every output number is at one.
  const extents = output.map((size, axis) => (size - 1) * strides[axis]! + (taps[axis]! - 1) * dilations[axis]! + 1);
  const after = extents.map((extent, axis) => extent - sizes[axis]! - padsBefore[axis]!);
  const swapped = transpose(graph, image, [1, 0, 2, 3]);
  const bordered = padded(graph, swapped, [0, 0, ...padsBefore, 0, examples - batch, ...after]);
  const full = padded(graph, inBlocks(graph, gradient, block), [0, 0, 0, 0, examples - batch, 0, 0, 0]);
  const apart = reshapeTo(graph, full, [examples / inner, inner, filters / block, sizeOf(output), block]);
  const asKernel = reshapeTo(graph, transpose(graph, apart, [2, 0, 3, 1, 4]), [filters, examples, ...output]);
  const sliding = { pads: [0, 0, 0, 0], strides: dilations, dilations: strides };
  const result = convolved(
    graph,
    [inBlocks(graph, bordered, block), asKernel],
    output,
    [channels, filters, ...taps],
    sliding,
  );
  const rows = reshapeTo(graph, result, [channels, filters / block, sizeOf(taps) * block]);
  const byFilters = channels === 1 || filters === block ? rows : transpose(graph, rows, [1, 0, 2]);
  const last = reshapeTo(graph, byFilters, [filters / block, channels * sizeOf(taps), block]);
  return reshapeTo(graph, transpose(graph, last, [0, 2, 1]), kernel);
}

/** Zeros around a value, or less of it where a pad is negative. */
function padded(graph: GraphBuilder, value: string, pads: readonly number[]): string {
  return pads.every((pad) => pad === 0) ? value : graph.emit('Pad', [value, graph.integers(pads)]);
}

/** From how many columns of border on it pays to write them: measured with kernels of five, and not worth it with those of three. */
const COLUMNS_MIN = 4;

/**
 * Writes the border's columns beforehand where they are many: the kernels are slow where a window reaches beyond an image's side. Answers
 * the pads that are left.
 */
function withColumns(
  graph: GraphBuilder,
  image: string,
  block: number,
  pads: readonly number[],
): { image: string; pads: readonly number[] } {
  const [top, left, bottom, right] = pads as [number, number, number, number];
  if (left + right < COLUMNS_MIN || graph.shapeOf(image)[1]! < block) return { image, pads };
  const key = `${image} between ${left} and ${right} columns`;
  const wide = once(graph, key, () => padded(graph, image, [0, 0, 0, left, 0, 0, 0, right]));
  return { image: wide, pads: [top, 0, bottom, 0] };
}

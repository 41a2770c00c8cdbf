/**
 * Convolutions over images of a few pixels, as products of matrices: what windows see is taken out of the image by a product with a constant
 * matrix of zeros and ones, and all windows of all images meet the kernel in one product. Kernels for convolutions are slow where there is
 * next to nothing to slide over, and multiply the border too.
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

/** Pixels of an image that is small, and windows on it. */
const [PIXELS_MAX, WINDOWS_MAX] = [16, 4];

/** What windows see of an image. */
interface Sight {
  /** Places of the kernel that touch the image at all; the others see the border alone. */
  taps: readonly number[];
  /** [pixels, taps · windows]: 1 where a tap of a window lies on a pixel. */
  matrix: Float32Array;
  pixels: number;
  windows: number;
}

/** How a Conv is written as products; undefined where its images are not small. */
export function sightOf(
  node: NodeProto,
  image: Shape,
  kernel: Shape,
  windows: Windows,
  forms: GradientForms,
): Sight | undefined {
  const [pixels, count, places] = [sizeOf(image.slice(2)), sizeOf(windows.output), sizeOf(kernel.slice(2))];
  if (forms.matrices !== true || image.length < 3 || intAttribute(node, 'group', 1) !== 1) return undefined;
  if (pixels > PIXELS_MAX || count > WINDOWS_MAX || places === 1) return undefined;
  const sees = Array.from({ length: places }, (_, tap) =>
    Array.from({ length: count }, (__, window) => pixelOf(image.slice(2), windows, tap, window)),
  );
  const taps = sees.flatMap((row, tap) => (row.some((pixel) => pixel !== undefined) ? [tap] : []));
  const matrix = new Float32Array(pixels * taps.length * count);
  for (const [at, tap] of taps.entries()) {
    for (const [window, pixel] of sees[tap]!.entries())
      if (pixel !== undefined) matrix[pixel * taps.length * count + at * count + window] = 1;
  }
  return { taps, matrix, pixels, windows: count };
}

/** The pixel under a place of the kernel in a window; undefined on the border. */
function pixelOf(sizes: Shape, windows: Windows, tap: number, window: number): number | undefined {
  const [places, at] = [unravelled(tap, windows.kernel), unravelled(window, windows.output)];
  const spot = sizes.map(
    (_, axis) =>
      at[axis]! * windows.strides[axis]! + places[axis]! * windows.dilations[axis]! - windows.padsBefore[axis]!,
  );
  if (spot.some((place, axis) => place < 0 || place >= sizes[axis]!)) return undefined;
  return spot.reduce((sum, place, axis) => sum * sizes[axis]! + place, 0);
}

function unravelled(index: number, shape: Shape): number[] {
  return shape.map((size, axis) => Math.floor(index / sizeOf(shape.slice(axis + 1))) % size);
}

/** What all windows see, a row each: [batch · windows, channels · taps]. */
function seen(graph: GraphBuilder, image: string, sight: Sight): string {
  const { taps, windows, pixels, matrix } = sight;
  const [batch, channels] = graph.shapeOf(image) as [number, number];
  return once(graph, `${image} seen ${[...matrix].join('')}`, () => {
    const planes = reshapeTo(graph, image, [batch * channels, pixels]);
    const isSame = pixels === 1 && taps.length === 1 && windows === 1;
    const views = isSame ? planes : graph.emit('MatMul', [planes, sightMatrix(graph, sight)]);
    const apart = reshapeTo(graph, views, [batch, channels * taps.length, windows]);
    const turned = windows === 1 ? apart : transpose(graph, apart, [0, 2, 1]);
    return reshapeTo(graph, turned, [batch * windows, channels * taps.length]);
  });
}

function sightMatrix(graph: GraphBuilder, { matrix, pixels, taps, windows }: Sight, turned = false): string {
  const columns = taps.length * windows;
  return once(graph, `sight ${turned} ${pixels} ${[...matrix].join('')}`, () => {
    if (!turned) return graph.floats(matrix, [pixels, columns]);
    const values = Float32Array.from(
      { length: matrix.length },
      (_, at) => matrix[(at % pixels) * columns + Math.floor(at / pixels)]!,
    );
    return graph.floats(values, [columns, pixels]);
  });
}

/** The kernel's places that touch the image: [filters, channels · taps]. */
function touching(graph: GraphBuilder, kernel: string, { taps }: Sight): string {
  const shape = graph.shapeOf(kernel);
  const [filters, channels, places] = [shape[0]!, shape[1]!, sizeOf(shape.slice(2))];
  if (taps.length === places) return reshapeTo(graph, kernel, [filters, channels * places]);
  return once(graph, `${kernel} at ${taps.join()}`, () => {
    // A product takes single numbers out of a row faster than a Gather does.
    const apart = reshapeTo(graph, kernel, [filters * channels, places]);
    const picked = graph.emit('MatMul', [apart, choice(graph, taps, places, false)]);
    return reshapeTo(graph, picked, [filters, channels * taps.length]);
  });
}

/** Writes a Conv of the model as products, under its own output's name. */
export function writeAsMatrices(graph: GraphBuilder, node: NodeProto, windows: Windows, sight: Sight): void {
  const [x, w, ...bias] = node.input as [string, string];
  const [batch, filters] = [graph.shapeOf(x)[0]!, graph.shapeOf(w)[0]!];
  const rows = graph.emit('Gemm', [seen(graph, x, sight), touching(graph, w, sight), ...bias], { transB: 1 });
  emitImages(graph, rows, [batch, filters, ...windows.output], sight.windows, node.output[0]);
}

/** [batch · windows, channels] as [batch, channels, ...]. */
function emitImages(graph: GraphBuilder, rows: string, shape: Shape, windows: number, output?: string): string {
  const [batch, channels] = shape as [number, number];
  const apart = windows === 1 ? rows : transpose(graph, reshapeTo(graph, rows, [batch, windows, channels]), [0, 2, 1]);
  return graph.emit('Reshape', [apart, graph.integers(shape)], {}, output);
}

/** [batch, channels, ...] as [batch · windows, channels]. */
function asRows(graph: GraphBuilder, images: string, windows: number): string {
  const [batch, channels] = graph.shapeOf(images) as [number, number];
  return once(graph, `${images} as rows`, () => {
    const apart = reshapeTo(graph, images, [batch, channels, windows]);
    return reshapeTo(graph, windows === 1 ? apart : transpose(graph, apart, [0, 2, 1]), [batch * windows, channels]);
  });
}

/** The gradient of the image: what every window would have changed, sent back to the pixels that it saw. */
export function matrixImageGradient(
  graph: GraphBuilder,
  gradient: string,
  kernel: string,
  image: Shape,
  sight: Sight,
): string {
  const { taps, windows, pixels } = sight;
  const [batch, channels] = image as [number, number];
  const views = graph.emit('Gemm', [asRows(graph, gradient, windows), touching(graph, kernel, sight)]);
  const apart = reshapeTo(graph, views, [batch, windows, channels * taps.length]);
  const turned = windows === 1 ? apart : transpose(graph, apart, [0, 2, 1]);
  const planes = reshapeTo(graph, turned, [batch * channels, taps.length * windows]);
  const isSame = pixels === 1 && taps.length === 1 && windows === 1;
  return reshapeTo(graph, isSame ? planes : graph.emit('MatMul', [planes, sightMatrix(graph, sight, true)]), image);
}

/** The gradient of the kernel: what windows saw times the gradient of what they made of it; none where a place sees the border alone. */
export function matrixKernelGradient(
  graph: GraphBuilder,
  image: string,
  gradient: string,
  kernel: Shape,
  sight: Sight,
): string {
  const [filters, channels, places] = [kernel[0]!, kernel[1]!, sizeOf(kernel.slice(2))];
  const product = graph.emit('Gemm', [asRows(graph, gradient, sight.windows), seen(graph, image, sight)], {
    transA: 1,
  });
  const { taps } = sight;
  if (taps.length === places) return reshapeTo(graph, product, kernel);
  const apart = reshapeTo(graph, product, [filters * channels, taps.length]);
  return reshapeTo(graph, graph.emit('MatMul', [apart, choice(graph, taps, places, true)]), kernel);
}

/** Picks some places out of all, [places, taps], or puts them back among zeros, [taps, places]. */
function choice(graph: GraphBuilder, taps: readonly number[], places: number, isBack: boolean): string {
  return once(graph, `choice ${isBack} ${places} ${taps.join()}`, () => {
    const values = new Float32Array(taps.length * places);
    for (const [at, tap] of taps.entries()) values[isBack ? at * places + tap : tap * taps.length + at] = 1;
    return graph.floats(values, isBack ? [taps.length, places] : [places, taps.length]);
  });
}

/** Reference values of the operators that compute on channels in blocks: everything is taken out of its blocks, and put back. */
import { sizeOf, stridesOf } from '../../core/src/tensor/shape.ts';
import type { Shape } from '../../core/src/tensor/shape.ts';
import { dot, fill } from './loops.ts';
import type { Kernel } from './loops.ts';

/** The kernels for blocks of so many channels; `conv` is the one without blocks. */
export function blockedKernels(block: number, conv: Kernel): Readonly<Record<string, Kernel>> {
  return {
    ReorderInput: ({ inputs, output }) => [inBlocks(inputs[0]!.data, output, block)],
    ReorderOutput: ({ inputs, output }) => [outOfBlocks(inputs[0]!.data, output, block)],
    Conv: (call) => {
      const [x, w, ...bias] = call.inputs;
      const isBlocked = x!.shape[1]! >= block;
      const image = isBlocked ? { shape: x!.shape, data: outOfBlocks(x!.data, x!.shape, block) } : x!;
      const kernel = { shape: w!.shape, data: plainKernel(w!.data, w!.shape, block, isBlocked ? block : 1) };
      const [result] = conv({ ...call, inputs: [image, kernel, ...bias] });
      return [inBlocks(result!, call.output, block)];
    },
  };
}

/** [batch, channels, ...] as [batch, channels / block, ..., block]. */
function inBlocks(data: Float64Array, shape: Shape, block: number): Float64Array {
  const [batch, channels, ...sizes] = shape as [number, number, ...number[]];
  return fill([batch, channels / block, ...sizes, block], ([n, outer, ...place]) => {
    const inner = place.pop()!;
    return data[dot([n!, outer! * block + inner, ...place], stridesOf(shape))]!;
  });
}

function outOfBlocks(data: Float64Array, shape: Shape, block: number): Float64Array {
  const [batch, channels, ...sizes] = shape as [number, number, ...number[]];
  const strides = stridesOf([batch, channels / block, ...sizes, block]);
  return fill(shape, ([n, c, ...place]) => data[dot([n!, Math.floor(c! / block), ...place, c! % block], strides)]!);
}

/** [filters / block, channels / inner, ..., inner, block] as [filters, channels, ...]. */
function plainKernel(data: Float64Array, shape: Shape, block: number, inner: number): Float64Array {
  const [filters, channels, ...sizes] = shape as [number, number, ...number[]];
  const strides = stridesOf([filters / block, channels / inner, sizeOf(sizes), inner, block]);
  return fill([filters, channels, sizeOf(sizes)], ([f, c, tap]) => {
    const place = [Math.floor(f! / block), Math.floor(c! / inner), tap!, c! % inner, f! % block];
    return data[dot(place, strides)]!;
  });
}

import type { Shape } from '../tensor/shape.ts';
import { sizeOf } from '../tensor/shape.ts';
import { clamp, roundHalfEven, soundScale } from './affine.ts';
import { QuantizeError } from './errors.ts';

/** A weight as signed codes with one scale per channel: `real = codes * scales[channel]`, zero point 0. */
export interface Channels {
  codes: Int8Array;
  scales: Float32Array;
}

/** Codes are symmetric: of 8 bits from -127 to 127, of 4 from -7 to 7. */
export type WeightBits = 2 | 3 | 4 | 5 | 6 | 7 | 8;

export interface ChannelOptions {
  /** 7 leaves headroom where a CPU adds pairs of products in 16 bits (AVX2 and AVX-512 without VNNI). */
  bits?: WeightBits;
  /** Smallest scale a channel may have. */
  scaleMin?: (channel: number) => number;
}

/** Symmetric codes along an axis of a dense row-major weight. Throws for numbers that are not finite. */
export function quantizeChannels(
  values: Float32Array,
  shape: Shape,
  axis: number,
  { bits = 8, scaleMin = () => 0 }: ChannelOptions = {},
): Channels {
  const codeMax = 2 ** (bits - 1) - 1;
  const scales = magnitudesOf(values, shape, axis);
  for (let channel = 0; channel < scales.length; channel++) {
    scales[channel] = soundScale(Math.max(scales[channel]! / codeMax, scaleMin(channel)));
  }
  const codes = new Int8Array(values.length);
  const channels = scales.length;
  const inner = sizeOf(shape.slice(axis + 1));
  for (let start = 0; start < values.length; start += inner) {
    const scale = scales[(start / inner) % channels]!;
    for (let index = start; index < start + inner; index++) {
      codes[index] = clamp(roundHalfEven(Math.fround(values[index]! / scale)), -codeMax, codeMax);
    }
  }
  return { codes, scales };
}

/** Largest magnitude in each channel. */
function magnitudesOf(values: Float32Array, shape: Shape, axis: number): Float32Array {
  const channels = shape[axis]!;
  const inner = sizeOf(shape.slice(axis + 1));
  const magnitudes = new Float32Array(channels);
  // Stays zero while all numbers are finite: both infinity minus itself and NaN are NaN.
  let poison = 0;
  for (let start = 0; start < values.length; start += inner) {
    const channel = (start / inner) % channels;
    let magnitude = magnitudes[channel]!;
    for (let index = start; index < start + inner; index++) {
      const value = values[index]!;
      poison += value - value;
      const size = value < 0 ? -value : value;
      if (size > magnitude) magnitude = size;
    }
    magnitudes[channel] = magnitude;
  }
  if (poison !== 0) throw new QuantizeError('a weight holds infinity or NaN; train or export the model again');
  return magnitudes;
}

/** `[rows, columns]` turned into `[columns, rows]`, in tiles that stay in the cache. */
export function transposed<T extends Float32Array | Int8Array>(values: T, rows: number, columns: number): T {
  const result = values.slice() as T;
  const tile = 64;
  for (let top = 0; top < rows; top += tile) {
    for (let left = 0; left < columns; left += tile) {
      const [bottom, right] = [Math.min(top + tile, rows), Math.min(left + tile, columns)];
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) result[column * rows + row] = values[row * columns + column]!;
      }
    }
  }
  return result;
}

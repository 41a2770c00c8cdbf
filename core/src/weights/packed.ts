import { ConfigError, invariant } from '../errors.ts';
import type { GridSpec } from './grid.ts';
import { MX_BLOCK, MX_FRACTION_BITS } from './mxint.ts';

/** What an update carries: the delta, further vectors of the model's length, and a few numbers. */
export interface UpdateShape {
  /** Vectors of the model's length, the delta among them. */
  vectors: number;
  /** Largest values of the numbers, each a power of two; they are never below 0. */
  numbersMax: readonly number[];
}

/** The parts of an update, or their weighted means over a round. */
export interface UpdateParts {
  vectors: readonly Float32Array[];
  numbers: readonly number[];
}

/** An update that is its delta alone. */
export const DELTA_ONLY: UpdateShape = { vectors: 1, numbersMax: [] };

/** Bits of a digit: what an MXINT8 element holds without its sign. MXINT4 holds less, and so no numbers. */
const DIGIT_BITS = 7;
const DIGITS_MAX = 4;

/**
 * A number is written in digits to the base 128, the n-th digits of all numbers in a block of their own: the exponent of a block can
 * then be such that every encoding holds each digit exactly.
 */
function digitsOn({ lsbExponent, valueMaxExponent }: GridSpec): number {
  const digits = Math.min(DIGITS_MAX, Math.floor((valueMaxExponent - DIGIT_BITS - lsbExponent) / DIGIT_BITS) + 1);
  if (digits >= 2) return digits;
  throw new ConfigError(
    'the grid of this task is too coarse for the numbers that its strategy adds to updates: lower weightMax or cohort.max',
    'weightMax',
  );
}

/** What one unit of the digit at a place is worth in an update's values. */
const unitOf = ({ valueMaxExponent }: GridSpec, place: number): number =>
  2 ** (valueMaxExponent - 1 - MX_FRACTION_BITS - DIGIT_BITS * place);

const aligned = (length: number): number => Math.ceil(length / MX_BLOCK) * MX_BLOCK;

const isPlain = ({ vectors, numbersMax }: UpdateShape): boolean => vectors === 1 && numbersMax.length === 0;

/** Values of an update on the wire, of a model of `length` parameters. Throws ConfigError where the grid cannot hold its numbers. */
export function packedLength(shape: UpdateShape, length: number, grid: GridSpec): number {
  if (isPlain(shape)) return length;
  return shape.vectors * aligned(length) + (shape.numbersMax.length === 0 ? 0 : MX_BLOCK * digitsOn(grid));
}

/** One vector of all the parts, each beginning at a block of its own. Throws RangeError where a number is out of its range. */
export function pack({ vectors, numbers }: UpdateParts, shape: UpdateShape, grid: GridSpec): Float32Array {
  const [delta] = vectors;
  invariant(delta !== undefined && vectors.length === shape.vectors, 'an update has the vectors of its shape');
  invariant(numbers.length === shape.numbersMax.length && numbers.length <= MX_BLOCK, 'and its numbers');
  if (isPlain(shape)) return delta;
  const packed = new Float32Array(packedLength(shape, delta.length, grid));
  vectors.forEach((vector, i) => packed.set(vector, i * aligned(delta.length)));
  if (numbers.length === 0) return packed;
  const places = digitsOn(grid);
  const start = vectors.length * aligned(delta.length);
  for (const [i, number] of numbers.entries()) {
    const max = shape.numbersMax[i] ?? 0;
    let rest = Math.round((number / max) * 2 ** (DIGIT_BITS * places));
    if (!(rest >= 0 && rest < 2 ** (DIGIT_BITS * places))) {
      throw new RangeError(`number ${i} of an update is ${number}, and may be from 0 to below ${max}`);
    }
    for (let place = places - 1; place >= 0; place--) {
      packed[start + MX_BLOCK * place + i] = (rest % 2 ** DIGIT_BITS) * unitOf(grid, place);
      rest = Math.floor(rest / 2 ** DIGIT_BITS);
    }
  }
  return packed;
}

/** The parts of a packed vector, or of the mean of several: packing is linear. */
export function unpack(packed: Float32Array, shape: UpdateShape, length: number, grid: GridSpec): UpdateParts {
  if (isPlain(shape)) return { vectors: [packed], numbers: [] };
  const vectors = Array.from({ length: shape.vectors }, (_, i) =>
    packed.slice(i * aligned(length), i * aligned(length) + length),
  );
  const start = shape.vectors * aligned(length);
  const numbers = shape.numbersMax.map((max, i) => {
    let number = 0;
    for (let place = digitsOn(grid) - 1; place >= 0; place--) {
      const digit = (packed[start + MX_BLOCK * place + i] ?? 0) / unitOf(grid, place);
      number += digit * 2 ** (-DIGIT_BITS * (place + 1));
    }
    return number * max;
  });
  return { vectors, numbers };
}

import { CodecError } from '../errors.ts';
import type { RandomStream } from '../random/stream.ts';
import type { Encoding } from './encoding.ts';
import type { GridSpec } from './grid.ts';

/** Values that share one exponent. */
export const MX_BLOCK = 32;
/** Bias of the shared exponent (E8M0). */
export const MX_EXPONENT_BIAS = 127;
/** A shared exponent of this makes the whole block NaN. */
const NAN_EXPONENT = 0xff - MX_EXPONENT_BIAS;
/** An element is an int8 times 2^-6. */
export const MX_FRACTION_BITS = 6;
/** Largest element: the format's -128 is left unused, so that the range is symmetric. */
const ELEMENT_MAX = 127;

const blocksOf = (length: number): number => Math.ceil(length / MX_BLOCK);

/**
 * MXINT8: blocks of 32 values, one shared power-of-two exponent each. The payload is all exponents, then all elements.
 * Source: OCP Microscaling Formats (MX) specification 1.0, section 5.3.
 */
export const mxint8: Encoding = {
  name: 'mxint8',
  byteLength: (length) => blocksOf(length) + length,
  partsOf: (length, start, end) => [
    { start: start / MX_BLOCK, end: blocksOf(end) },
    { start: blocksOf(length) + start, end: blocksOf(length) + end },
  ],
  encode: (values, grid, random) => {
    const blocks = blocksOf(values.length);
    const payload = new Uint8Array(blocks + values.length);
    const elements = new Int8Array(payload.buffer, blocks);
    for (let block = 0; block < blocks; block++) {
      const start = block * MX_BLOCK;
      const end = Math.min(start + MX_BLOCK, values.length);
      payload[block] = encodeBlock(values, start, end, elements, grid, random) + MX_EXPONENT_BIAS;
    }
    return payload;
  },
  decode: (payload, length) => {
    const blocks = blocksOf(length);
    if (payload.length !== blocks + length) {
      throw new CodecError(
        `an mxint8 payload of ${length} values has ${blocks + length} bytes, this one ${payload.length}`,
      );
    }
    const elements = new Int8Array(payload.buffer, payload.byteOffset + blocks, length);
    const values = new Float32Array(length);
    for (let block = 0; block < blocks; block++) {
      const exponent = (payload[block] ?? 0) - MX_EXPONENT_BIAS;
      const step = exponent === NAN_EXPONENT ? NaN : 2 ** (exponent - MX_FRACTION_BITS);
      const end = Math.min((block + 1) * MX_BLOCK, length);
      for (let i = block * MX_BLOCK; i < end; i++) values[i] = (elements[i] ?? 0) * step;
    }
    return values;
  },
};

/** Writes the elements of one block and gives its exponent. */
function encodeBlock(
  values: Float32Array,
  start: number,
  end: number,
  elements: Int8Array,
  grid: GridSpec,
  random: RandomStream,
): number {
  const exponentMin = grid.lsbExponent + MX_FRACTION_BITS;
  let largest = 0;
  for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(values[i] ?? 0));
  // Said in the format's own way, so that whoever sums it refuses the update; a zero would hide that training diverged.
  if (Number.isNaN(largest)) return NAN_EXPONENT;
  const exponent = Math.min(grid.valueMaxExponent - 1, Math.max(exponentMin, exponentOf(largest)));
  const perStep = 2 ** (MX_FRACTION_BITS - exponent);
  let allZero = true;
  for (let i = start; i < end; i++) {
    const steps = Math.min(ELEMENT_MAX, Math.max(-ELEMENT_MAX, (values[i] ?? 0) * perStep));
    const element = Math.floor(steps + random.uniform());
    elements[i] = Math.min(ELEMENT_MAX, element);
    allZero &&= elements[i] === 0;
  }
  return allZero ? exponentMin : exponent;
}

/** The smallest exponent e for which |value| <= 127/64 * 2^e. */
function exponentOf(largest: number): number {
  if (!(largest > 0)) return -MX_EXPONENT_BIAS;
  const exponent = Math.floor(Math.log2(largest));
  return largest > (ELEMENT_MAX / 64) * 2 ** exponent ? exponent + 1 : exponent;
}

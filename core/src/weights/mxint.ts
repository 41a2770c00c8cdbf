import type { RandomStream } from '../random/stream.ts';
import { dense } from './dense.ts';
import type { ValueEncoding } from './encoding.ts';
import type { GridSpec } from './grid.ts';

/** Values that share one exponent. */
export const MX_BLOCK = 32;
/** Bias of the shared exponent (E8M0). */
export const MX_EXPONENT_BIAS = 127;
/** A shared exponent of this makes the whole block NaN. */
const NAN_EXPONENT = 0xff - MX_EXPONENT_BIAS;
/** An 8-bit element is an integer times 2^-6; a 4-bit one is its upper half. */
export const MX_FRACTION_BITS = 6;

/** Shared exponents of so many values. */
export const mxBlocks = (length: number): number => Math.ceil(length / MX_BLOCK);

/** How elements are kept: one a byte, or two, the first in the lower half. */
interface Elements {
  name: 'mxint8' | 'mxint4';
  /** Bits after the point. */
  fractionBits: number;
  /** Largest element: the most negative is left unused, so that the range is symmetric. */
  max: number;
  bytes(length: number): number;
  write(bytes: Uint8Array, at: number, element: number): void;
  read(bytes: Uint8Array, at: number): number;
}

const bytewise: Elements = {
  name: 'mxint8',
  fractionBits: MX_FRACTION_BITS,
  max: 127,
  bytes: (length) => length,
  write: (bytes, at, element) => (bytes[at] = element),
  read: (bytes, at) => ((bytes[at] ?? 0) << 24) >> 24,
};

const inHalves: Elements = {
  name: 'mxint4',
  fractionBits: 2,
  max: 7,
  bytes: (length) => Math.ceil(length / 2),
  write: (bytes, at, element) => {
    const byte = bytes[at >>> 1] ?? 0;
    bytes[at >>> 1] = at % 2 === 0 ? (byte & 0xf0) | (element & 0x0f) : (byte & 0x0f) | ((element & 0x0f) << 4);
  },
  read: (bytes, at) => {
    const byte = bytes[at >>> 1] ?? 0;
    return at % 2 === 0 ? (byte << 28) >> 28 : (byte << 24) >> 28;
  },
};

/**
 * MXINT8: blocks of 32 values, one shared power-of-two exponent each. The payload is all exponents, then all elements.
 * Source: OCP Microscaling Formats (MX) specification 1.0, section 5.3.
 */
export const mxint8: ValueEncoding = encodingOf(bytewise);

/** MXINT4: the same with elements of four bits, integers from -7 to 7 times 2^-2; 4.25 bits a value. The specification stops at eight. */
export const mxint4: ValueEncoding = encodingOf(inHalves);

function encodingOf(kind: Elements): ValueEncoding {
  const byteLength = (length: number): number => mxBlocks(length) + kind.bytes(length);
  return dense({
    name: kind.name,
    byteLength,
    exponentBytes: mxBlocks,
    encode: (values, grid, random) => {
      const payload = new Uint8Array(byteLength(values.length));
      const elements = payload.subarray(mxBlocks(values.length));
      for (let start = 0; start < values.length; start += MX_BLOCK) {
        const end = Math.min(start + MX_BLOCK, values.length);
        const exponent = encodeBlock(kind, { values, start, end, elements }, grid, random);
        payload[start / MX_BLOCK] = exponent + MX_EXPONENT_BIAS;
      }
      return payload;
    },
    valuesIn: (payload, length) => {
      const elements = payload.subarray(mxBlocks(length));
      const values = new Float32Array(length);
      for (let start = 0; start < length; start += MX_BLOCK) {
        const exponent = (payload[start / MX_BLOCK] ?? 0) - MX_EXPONENT_BIAS;
        const step = exponent === NAN_EXPONENT ? NaN : 2 ** (exponent - kind.fractionBits);
        const end = Math.min(start + MX_BLOCK, length);
        for (let i = start; i < end; i++) values[i] = kind.read(elements, i) * step;
      }
      return values;
    },
  });
}

/** Values of one block, and where its elements go. */
interface Block {
  values: Float32Array;
  start: number;
  end: number;
  elements: Uint8Array;
}

/** Writes the elements of one block and gives its exponent. */
function encodeBlock(
  { fractionBits, max, write }: Elements,
  { values, start, end, elements }: Block,
  grid: GridSpec,
  random: RandomStream,
): number {
  const exponentMin = grid.lsbExponent + MX_FRACTION_BITS;
  let largest = 0;
  for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(values[i] ?? 0));
  // Said in the format's own way, so that whoever sums it refuses the update; a zero would hide that training diverged.
  if (Number.isNaN(largest)) return NAN_EXPONENT;
  const smallestFor = exponentFor(largest, max / 2 ** fractionBits);
  const exponent = Math.min(grid.valueMaxExponent - 1, Math.max(exponentMin, smallestFor));
  const perStep = 2 ** (fractionBits - exponent);
  let allZero = true;
  for (let i = start; i < end; i++) {
    const steps = Math.min(max, Math.max(-max, (values[i] ?? 0) * perStep));
    const element = Math.min(max, Math.floor(steps + random.uniform()));
    write(elements, i, element);
    allZero &&= element === 0;
  }
  return allZero ? exponentMin : exponent;
}

/** The smallest exponent e for which |value| <= elementMax × 2^e, where elementMax is from 1 to below 2. */
function exponentFor(largest: number, elementMax: number): number {
  if (!(largest > 0)) return -MX_EXPONENT_BIAS;
  const exponent = Math.floor(Math.log2(largest));
  return largest > elementMax * 2 ** exponent ? exponent + 1 : exponent;
}

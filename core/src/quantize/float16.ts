/** Largest finite float16. */
export const FLOAT16_MAX = 65504;

const bits = new Uint32Array(1);
const number = new Float32Array(bits.buffer);

/** The bits of the nearest float16, ties to even; beyond the largest it is infinity. */
export function float16Bits(value: number): number {
  number[0] = value;
  const word = bits[0]!;
  const sign = (word >>> 16) & 0x8000;
  const rest = word & 0x7fff_ffff;
  if (rest > 0x7f80_0000) return sign | 0x7e00;
  // From half a step above the largest finite number on.
  if (rest >= 0x477f_f000) return sign | 0x7c00;
  if (rest < 0x3880_0000) return sign | subnormalBits(Math.abs(number[0]));
  const odd = (rest >>> 13) & 1;
  return sign | ((rest - 0x3800_0000 + 0xfff + odd) >>> 13);
}

/** Below 2^-14 a float16 is a whole number of 2^-24. */
function subnormalBits(magnitude: number): number {
  const steps = magnitude * 2 ** 24;
  const floor = Math.floor(steps);
  const rest = steps - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

export function float16Value(code: number): number {
  const sign = code & 0x8000 ? -1 : 1;
  const exponent = (code >>> 10) & 0x1f;
  const fraction = code & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** Float32 numbers as little-endian float16. */
export function float16Bytes(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(values.length * 2);
  for (let index = 0; index < values.length; index++) {
    const code = float16Bits(values[index]!);
    bytes[2 * index] = code & 0xff;
    bytes[2 * index + 1] = code >>> 8;
  }
  return bytes;
}

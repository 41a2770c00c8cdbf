import { QuantizeError } from './errors.ts';

/** Eight-bit element types of a quantized tensor. */
export type ByteType = 'int8' | 'uint8';

/** `real = scale * (code - zeroPoint)`; the zero point is a code, so that zero is exact. */
export interface Affine {
  type: ByteType;
  /** A positive float32. */
  scale: number;
  zeroPoint: number;
}

/** Smallest and largest number that a value is expected to hold. */
export interface Range {
  min: number;
  max: number;
}

export const codeLimits: Readonly<Record<ByteType, Range>> = {
  int8: { min: -128, max: 127 },
  uint8: { min: 0, max: 255 },
};

/** Adding and taking it away rounds a double below 2^51 to a whole number, ties to even. */
const ROUNDER = 1.5 * 2 ** 52;

/** Nearest whole number, ties to even: how ONNX's QuantizeLinear rounds. For magnitudes below 2^51. */
export function roundHalfEven(value: number): number {
  return value + ROUNDER - ROUNDER;
}

/** Smallest normal float32: a scale below it would lose digits in the division. */
const FLOAT32_NORMAL_MIN = 2 ** -126;

/** A float32 scale, or 1 where all numbers are (nearly) zero and any scale would do. */
export function soundScale(scale: number): number {
  const rounded = Math.fround(scale);
  return rounded < FLOAT32_NORMAL_MIN ? 1 : rounded;
}

/** Scale and zero point that cover the range widened to hold zero. Throws for a range that is not finite. */
export function affineOf({ min, max }: Range, type: ByteType): Affine {
  if (!Number.isFinite(min) || !Number.isFinite(max) || min > max) {
    throw new QuantizeError(`the range ${min} to ${max} cannot be quantized; give numbers that are finite`);
  }
  const [low, high] = [Math.fround(Math.min(min, 0)), Math.fround(Math.max(max, 0))];
  const { min: codeMin, max: codeMax } = codeLimits[type];
  const scale = soundScale((high - low) / (codeMax - codeMin));
  return { type, scale, zeroPoint: clamp(roundHalfEven(codeMin - Math.fround(low / scale)), codeMin, codeMax) };
}

/** Codes of the values, bit-equal to ONNX Runtime's QuantizeLinear. */
export function quantize(values: Float32Array, { type, scale, zeroPoint }: Affine): Int8Array | Uint8Array {
  const codes = type === 'int8' ? new Int8Array(values.length) : new Uint8Array(values.length);
  const { min, max } = codeLimits[type];
  for (let index = 0; index < values.length; index++) {
    codes[index] = clamp(roundHalfEven(Math.fround(values[index]! / scale)) + zeroPoint, min, max);
  }
  return codes;
}

/** The numbers that codes stand for, bit-equal to ONNX Runtime's DequantizeLinear. */
export function dequantize(codes: Int8Array | Uint8Array, { scale, zeroPoint }: Omit<Affine, 'type'>): Float32Array {
  const values = new Float32Array(codes.length);
  for (let index = 0; index < codes.length; index++) values[index] = (codes[index]! - zeroPoint) * scale;
  return values;
}

export function clamp(value: number, min: number, max: number): number {
  return value < min ? min : value > max ? max : value;
}

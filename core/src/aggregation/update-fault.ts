import type { GridSpec } from '../weights/grid.ts';
import { MX_EXPONENT_BIAS, MX_FRACTION_BITS } from '../weights/mxint.ts';

/** Why an update cannot be part of a sum. */
export type UpdateFault = 'wrong-size' | 'not-finite' | 'value-too-large' | 'off-grid' | 'weight-out-of-range';

const INFINITY_BITS = 0x7f800000;

/** What is wrong with floats of which the largest magnitude has these bits. */
export function faultOfFloats(largest: number, { valueMaxExponent }: GridSpec): UpdateFault | undefined {
  if (largest >= INFINITY_BITS) return 'not-finite';
  return largest > float32Bits(2 ** valueMaxExponent) ? 'value-too-large' : undefined;
}

/** What is wrong with the exponents that blocks share. */
export function faultOfExponents(exponents: Uint8Array, grid: GridSpec): UpdateFault | undefined {
  const exponentMin = grid.lsbExponent + MX_FRACTION_BITS + MX_EXPONENT_BIAS;
  // An element reaches -128 (or -8), that is -2 x 2^exponent.
  const exponentMax = grid.valueMaxExponent - 1 + MX_EXPONENT_BIAS;
  for (const exponent of exponents) {
    if (exponent < exponentMin) return 'off-grid';
    if (exponent > exponentMax) return exponent === 0xff ? 'not-finite' : 'value-too-large';
  }
  return undefined;
}

/** What makes a shift of an exponent's byte. */
export const shiftBaseOf = (grid: GridSpec): number => -MX_EXPONENT_BIAS - MX_FRACTION_BITS - grid.lsbExponent;

const float32Bits = (value: number): number => new Uint32Array(new Float32Array([value]).buffer)[0] ?? 0;

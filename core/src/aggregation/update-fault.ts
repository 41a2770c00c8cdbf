import type { GridSpec } from '../weights/grid.ts';
import { MX_EXPONENT_BIAS, MX_FRACTION_BITS } from '../weights/mxint.ts';

/** Why an update cannot be part of a sum. */
export type UpdateFault = 'wrong-size' | 'not-finite' | 'value-too-large' | 'off-grid' | 'weight-out-of-range';

const INFINITY_BITS = 0x7f800000;

/** What is wrong with floats of which the largest magnitude has these bits. */
export function faultOfFloats(grid: GridSpec): (largest: number) => UpdateFault | undefined {
  const [max = 0] = new Uint32Array(new Float32Array([2 ** grid.valueMaxExponent]).buffer);
  return (largest) => {
    if (largest >= INFINITY_BITS) return 'not-finite';
    return largest > max ? 'value-too-large' : undefined;
  };
}

/** What is wrong with the exponents that blocks share, by the largest and the smallest of them. */
export function faultOfExponents(grid: GridSpec): (largest: number, smallest: number) => UpdateFault | undefined {
  const min = grid.lsbExponent + MX_FRACTION_BITS + MX_EXPONENT_BIAS;
  // An element reaches -128 (or -8), that is -2 x 2^exponent.
  const max = grid.valueMaxExponent - 1 + MX_EXPONENT_BIAS;
  return (largest, smallest) => {
    if (largest > max) return largest === 0xff ? 'not-finite' : 'value-too-large';
    return smallest < min ? 'off-grid' : undefined;
  };
}

/** What makes a shift of an exponent's byte. */
export const shiftBaseOf = (grid: GridSpec): number => -MX_EXPONENT_BIAS - MX_FRACTION_BITS - grid.lsbExponent;

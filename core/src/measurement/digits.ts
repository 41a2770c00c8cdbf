import { invariant } from '../errors.ts';

/**
 * Whole numbers of any size as a few values that float32 holds exactly, and that can be added: digits to the base 2^20, the lowest first,
 * each with the number's sign. Sums of digits are not digits any more and still mean the sum of the numbers.
 */
const DIGIT_BITS = 20n;
const MASK = (1n << DIGIT_BITS) - 1n;

/** Digits that a number of so many bits takes. */
export const digitsFor = (bits: number): number => Math.ceil(bits / Number(DIGIT_BITS));

/** Writes a number into so many values. */
export function writeDigits(into: Float32Array, at: number, count: number, number: bigint): void {
  const sign = number < 0n ? -1 : 1;
  let rest = number < 0n ? -number : number;
  for (let i = 0; i < count; i++) {
    into[at + i] = sign * Number(rest & MASK);
    rest >>= DIGIT_BITS;
  }
  invariant(rest === 0n, 'a number has room in its digits');
}

/** The number that sums of digits mean. */
export function readDigits(sums: BigInt64Array, at: number, count: number): bigint {
  let number = 0n;
  for (let i = count - 1; i >= 0; i--) number = (number << DIGIT_BITS) + (sums[at + i] ?? 0n);
  return number;
}

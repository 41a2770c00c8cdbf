import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CodecError } from '../errors.ts';
import { seeded } from '../random/stream.ts';
import { decodeNumbers, encodeNumbers, ENTROPY_BLOCK } from './entropy.ts';

const decoded = (bytes: Uint8Array, length: number): { numbers: number[]; end: number } => {
  const into = new Int32Array(length);
  const end = decodeNumbers(bytes, 0, into);
  return { numbers: [...into], end };
};

const number = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: -2, max: 2 }) },
  { weight: 2, arbitrary: fc.integer({ min: -200, max: 200 }) },
  { weight: 1, arbitrary: fc.integer({ min: -(2 ** 30) + 1, max: 2 ** 30 - 1 }) },
);

test('numbers come back, and the block ends where it ends', () => {
  fc.assert(
    fc.property(fc.array(number, { minLength: 1, maxLength: 400 }), (numbers) => {
      const bytes = encodeNumbers(Int32Array.from(numbers));
      expect(decoded(bytes, numbers.length)).toEqual({ numbers, end: bytes.length });
    }),
    { numRuns: 300 },
  );
});

test('any bytes are numbers or a CodecError, and never more work than they have numbers', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.integer({ min: 1, max: 200 }), (bytes, length) => {
      try {
        expect(decoded(bytes, length).numbers).toHaveLength(length);
      } catch (error) {
        expect(error).toBeInstanceOf(CodecError);
      }
    }),
    { numRuns: 1000 },
  );
});

test('a flipped bit, a byte too few or another count is found, or other numbers come out, but nothing else happens', () => {
  const numbers = Int32Array.from({ length: 300 }, (_, i) => ((i * 37) % 11) - 5);
  const bytes = encodeNumbers(numbers);
  fc.assert(
    fc.property(fc.nat(8 * bytes.length - 1), fc.integer({ min: -2, max: 2 }), (bit, more) => {
      const harmed = bytes.slice();
      harmed[bit >> 3]! ^= 1 << (bit & 7);
      try {
        decoded(harmed, numbers.length + more);
      } catch (error) {
        expect(error).toBeInstanceOf(CodecError);
      }
    }),
  );
  expect(() => decoded(bytes.subarray(0, bytes.length - 1), 300)).toThrow(CodecError);
  expect(() => decoded(bytes, 301)).toThrow(CodecError);
  expect(() => decoded(bytes, 299)).toThrow(CodecError);
});

describe('bytes of a block against the entropy of its numbers', () => {
  test.each([0.3, 1, 3, 12, 40, 300])('normal numbers with a deviation of %d', (deviation) => {
    const random = seeded(7);
    const numbers = Int32Array.from({ length: ENTROPY_BLOCK }, () => Math.round(random.normal() * deviation));
    const counts = new Map<number, number>();
    for (const one of numbers) counts.set(one, (counts.get(one) ?? 0) + 1);
    const bits = [...counts.values()].reduce((sum, count) => sum - count * Math.log2(count / numbers.length), 0);
    expect(encodeNumbers(numbers).length).toBeLessThan((bits / 8) * 1.05 + 64);
  });

  test('a block of one number is a dozen bytes', () => {
    expect(encodeNumbers(new Int32Array(ENTROPY_BLOCK)).length).toBeLessThan(13);
  });
});

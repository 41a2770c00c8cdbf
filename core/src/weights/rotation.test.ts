import fc from 'fast-check';
import { expect, test } from 'vitest';
import { seeded } from '../random/stream.ts';
import { rotate, rotatedLength, turnBack } from './rotation.ts';

const SEED = 9n;
const lengths = fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 1000, max: 3000 }));
const drawn = (length: number, seed: number): Float32Array => {
  const random = seeded(seed);
  return Float32Array.from({ length }, () => random.normal());
};
const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

test('a vector that is turned and turned back is itself, up to the rounding of its block', () => {
  fc.assert(
    fc.property(lengths, fc.nat(), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (length, seed, turn) => {
      const values = drawn(length, seed);
      const rotated = rotate(values, turn);
      expect(rotated.length).toBe(rotatedLength(length));
      const back = turnBack(rotated, length, turn);
      for (const [i, value] of values.entries()) expect(Math.abs(back[i]! - value)).toBeLessThan(1e-5);
    }),
  );
});

test('turning is linear: the mean of turned vectors, turned back, is the mean', () => {
  const [a, b] = [drawn(2500, 1), drawn(2500, 2)];
  const [ra, rb] = [rotate(a, SEED), rotate(b, SEED)];
  const back = turnBack(
    ra.map((value, i) => (value + 3 * rb[i]!) / 4),
    2500,
    SEED,
  );
  for (const [i, value] of a.entries()) expect(back[i]).toBeCloseTo((value + 3 * b[i]!) / 4, 5);
});

test('lengths are kept, and one large value is spread over its block', () => {
  expect(norm(rotate(drawn(4096, 3), SEED)) / norm(drawn(4096, 3))).toBeCloseTo(1, 5);
  const spike = new Float32Array(1024);
  spike[77] = 8;
  expect(new Set(rotate(spike, SEED).map(Math.abs))).toEqual(new Set([8 / 32]));
});

test('how a vector is turned follows from the seed', () => {
  const values = drawn(2000, 4);
  expect(rotate(values, 1n)).toEqual(rotate(values, 1n));
  expect(rotate(values, 1n)).not.toEqual(rotate(values, 2n));
});

test.each([
  [0, 0],
  [1, 32],
  [33, 64],
  [1023, 1024],
  [1024, 1024],
  [1025, 1024 + 32],
  [199_210, 194 * 1024 + 1024],
])('%i values are %i once they are turned', (length, turned) => expect(rotatedLength(length)).toBe(turned));

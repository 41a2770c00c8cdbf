import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ExactSum } from '../aggregation/exact-sum.ts';
import { ConfigError } from '../errors.ts';
import { seeded } from '../random/stream.ts';
import { encodings, type EncodingName } from './encoding.ts';
import { gridFor } from './grid.ts';
import { DELTA_ONLY, pack, packedLength, unpack } from './packed.ts';

const grid = gridFor({ valueMaxExponent: 3, weightMax: 1000, cohortMax: 64 });
const shape = { vectors: 2, numbersMax: [65_536, 1] };
/** 28 bits. */
const RESOLUTION = 2 ** -28;

describe.each(['float32', 'mxint8'] as const)('parts of an update in %s', (name: EncodingName) => {
  test('numbers come through the exact sum as their weighted mean, whatever the vectors are', () => {
    const update = fc.record({
      steps: fc.double({ min: 0, max: 65_000, noNaN: true }),
      share: fc.double({ min: 0, max: 0.99, noNaN: true }),
      weight: fc.integer({ min: 1, max: 1000 }),
    });
    fc.assert(
      fc.property(
        fc.array(update, { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 70 }),
        fc.nat(),
        (updates, length, seed) => {
          const random = seeded(seed);
          const sum = new ExactSum(packedLength(shape, length, grid), grid);
          const vectors = [0, 1].map(() => Float32Array.from({ length }, () => random.normal()));
          for (const { steps, share, weight } of updates) {
            const packed = pack({ vectors, numbers: [steps, share] }, shape, grid);
            expect(sum.add(name, encodings[name].encode(packed, grid, random), weight)).toBeUndefined();
          }
          const total = updates.reduce((all, { weight }) => all + weight, 0);
          const mean = (of: (one: (typeof updates)[number]) => number): number =>
            updates.reduce((all, one) => all + of(one) * one.weight, 0) / total;
          const { numbers } = unpack(sum.mean(), shape, length, grid);
          // A mean is rounded to float32, digit by digit.
          const near = (value: number | undefined, wanted: number, max: number): void =>
            expect(Math.abs(value! - wanted)).toBeLessThanOrEqual(max * RESOLUTION + wanted * 2 ** -23);
          near(
            numbers[0],
            mean(({ steps }) => steps),
            65_536,
          );
          near(
            numbers[1],
            mean(({ share }) => share),
            1,
          );
        },
      ),
    );
  });
});

test('vectors come back bit for bit where the encoding loses nothing', () => {
  const vectors = [Float32Array.of(0.5, -1, 2), Float32Array.of(-0.25, 0, 8)];
  const packed = pack({ vectors, numbers: [3, 0.5] }, shape, grid);
  const coded = encodings.float32.encode(packed, grid, seeded(1));
  const decoded = encodings.float32.decode(coded, packed.length, grid);
  expect(unpack(decoded, shape, 3, grid)).toEqual({ vectors, numbers: [3, 0.5] });
});

test('an update that is its delta alone is not packed at all', () => {
  const delta = Float32Array.of(1, 2, 3);
  expect(pack({ vectors: [delta], numbers: [] }, DELTA_ONLY, grid)).toBe(delta);
  expect(packedLength(DELTA_ONLY, 3, grid)).toBe(3);
});

test('numbers out of their range, and a grid too coarse for numbers, are refused', () => {
  const vectors = [new Float32Array(2), new Float32Array(2)];
  for (const number of [-1, 65_536, NaN, Infinity]) {
    expect(() => pack({ vectors, numbers: [number, 0] }, shape, grid)).toThrow(RangeError);
  }
  const coarse = gridFor({ valueMaxExponent: -12, weightMax: 2 ** 23, cohortMax: 2 ** 31 });
  expect(() => packedLength(shape, 2, coarse)).toThrow(ConfigError);
});

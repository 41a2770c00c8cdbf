import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { seeded } from '../random/stream.ts';
import { encodings, type EncodingName } from '../weights/encoding.ts';
import { gridFor } from '../weights/grid.ts';
import { ExactSum, type WeightedPayload } from './exact-sum.ts';
import { plainAccumulator } from './plain-accumulator.ts';
import { wasmAccumulator } from './wasm-accumulator.ts';

const grid = gridFor({ valueMaxExponent: 3, weightMax: 10_000, cohortMax: 64 });
const LENGTH = 8192 + 37;

const encodingNames = fc.constantFrom(...(Object.keys(encodings) as EncodingName[]));

function updateOf(seed: number, encoding: EncodingName, scale = 0.01): WeightedPayload {
  const random = seeded(seed);
  const values = Float32Array.from({ length: LENGTH }, () => random.normal() * scale);
  const payload = encodings[encoding].encode(values, grid, random, 0.1);
  return { encoding, payload, weight: 1 + random.integer(10_000) };
}

const updatesOf = fc
  .array(fc.record({ seed: fc.nat(), encoding: encodingNames, scale: fc.constantFrom(1e-9, 1e-3, 1) }), {
    minLength: 1,
    maxLength: 6,
  })
  .map((specs) => specs.map(({ seed, encoding, scale }) => updateOf(seed, encoding, scale)));

const sumOf = (updates: readonly WeightedPayload[]): ExactSum => {
  const sum = new ExactSum(LENGTH, grid);
  expect(sum.addAll(updates)).toEqual(updates.map(() => undefined));
  return sum;
};

test('the order of arrival never shows', () => {
  fc.assert(
    fc.property(updatesOf, fc.nat(), (updates, seed) => {
      const shuffled = seeded(seed).shuffle(updates);
      expect(sumOf(shuffled).toBytes()).toEqual(sumOf(updates).toBytes());
    }),
    { numRuns: 20 },
  );
});

test('sums that shared the work add up to the one sum', () => {
  fc.assert(
    fc.property(updatesOf, fc.nat(6), (updates, at) => {
      const whole = sumOf(updates);
      const part = sumOf(updates.slice(0, at));
      part.merge(ExactSum.fromBytes(sumOf(updates.slice(at)).toBytes()));
      expect(part.toBytes()).toEqual(whole.toBytes());
    }),
    { numRuns: 20 },
  );
});

test('the kernels and their plain twin agree bit for bit', () => {
  expect(wasmAccumulator(1)).toBeDefined();
  fc.assert(
    fc.property(updatesOf, (updates) => {
      const plain = new ExactSum(LENGTH, grid, plainAccumulator);
      for (const { encoding, payload, weight } of updates) plain.add(encoding, payload, weight);
      expect(plain.toBytes()).toEqual(sumOf(updates).toBytes());
    }),
    { numRuns: 20 },
  );
});

test('the sum is the sum that BigInt computes', () => {
  const updates = (Object.keys(encodings) as EncodingName[]).map((encoding, i) => updateOf(i, encoding));
  const sum = new ExactSum(LENGTH, grid);
  sum.addAll(updates);
  const exact = Array.from({ length: LENGTH }, (_, i) =>
    updates.reduce((total, { encoding, payload, weight }) => {
      const value = encodings[encoding].decode(payload, LENGTH, grid)[i] ?? 0;
      return total + BigInt(value * 2 ** -grid.lsbExponent) * BigInt(weight);
    }, 0n),
  );
  const words = new BigInt64Array(sum.toBytes().slice(32).buffer);
  expect([...words]).toEqual(exact);
});

describe.each(['mxint8', 'mxint4'] as const)('a bad update among those in %s changes nothing', (encoding) => {
  const good = updateOf(7, encoding);
  const late = (value: number): WeightedPayload => {
    const values = new Float32Array(LENGTH).fill(0.25);
    values[LENGTH - 1] = value;
    return { encoding: 'float32', payload: new Uint8Array(values.buffer), weight: 3 };
  };
  const exponent = (byte: number): WeightedPayload => {
    const update = updateOf(8, encoding);
    update.payload[5] = byte;
    return update;
  };
  test.each([
    ['NaN in the last value', late(NaN), 'not-finite'],
    ['an infinity', late(-Infinity), 'not-finite'],
    ['a huge value', late(8.001), 'value-too-large'],
    ['an exponent that is NaN', exponent(255), 'not-finite'],
    ['an exponent above the cap', exponent(130), 'value-too-large'],
    ['an exponent below the grid', exponent(1), 'off-grid'],
    ['a payload cut short', { ...good, payload: good.payload.subarray(1) }, 'wrong-size'],
    ['no weight', { ...good, weight: 0 }, 'weight-out-of-range'],
    ['a broken weight', { ...good, weight: 1.5 }, 'weight-out-of-range'],
    ['a weight above the cap', { ...good, weight: 10_001 }, 'weight-out-of-range'],
  ] as const)('%s', (_name, bad, fault) => {
    const sum = new ExactSum(LENGTH, grid);
    expect(sum.addAll([good, bad, good])).toEqual([undefined, fault, undefined]);
    expect(sum.toBytes()).toEqual(sumOf([good, good]).toBytes());
  });
});

test('the largest cohort of the largest updates does not overflow', () => {
  const caps = gridFor({ valueMaxExponent: 3, weightMax: 2 ** 20, cohortMax: 2 ** 13 });
  const sum = new ExactSum(32, caps);
  const payload = new Uint8Array(new Float32Array(32).fill(-8).buffer);
  for (let i = 0; i < caps.cohortMax; i++) expect(sum.add('float32', payload, caps.weightMax)).toBeUndefined();
  expect([...sum.mean()]).toEqual(Array.from({ length: 32 }, () => -8));
});

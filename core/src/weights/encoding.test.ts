import fc from 'fast-check';
import { expect, test } from 'vitest';
import { seeded } from '../random/stream.ts';
import {
  encodings,
  valueEncodings,
  type EncodingName,
  type StoredPayload,
  type ValueEncodingName,
} from './encoding.ts';
import { gridFor } from './grid.ts';

const grid = gridFor({ valueMaxExponent: 3, weightMax: 1000, cohortMax: 100 });
const valueNames = Object.keys(valueEncodings) as ValueEncodingName[];
const values = fc.constantFrom(...valueNames);
const names = fc.constantFrom(...(Object.keys(encodings) as EncodingName[]));
const shares = fc.constantFrom(0.01, 0.3, 1);
const vectors = fc
  .array(fc.double({ min: -4, max: 4, noNaN: true }), { minLength: 1, maxLength: 100 })
  .map((values) => Float32Array.from(values));

test('a value is off by less than one step of its block', () => {
  fc.assert(
    fc.property(values, vectors, fc.nat(), (name, values, seed) => {
      const payload = encodings[name].encode(values, grid, seeded(seed));
      expect(payload.length).toBe(valueEncodings[name].byteLength(values.length));
      const decoded = encodings[name].decode(payload, values.length, grid);
      for (const [i, value] of values.entries()) {
        const block = values.subarray(i - (i % 32), i - (i % 32) + 32);
        const largest = block.reduce((max, v) => Math.max(max, Math.abs(v)), 0);
        const steps = { float32: Infinity, mxint8: 32, mxint4: 2 }[name];
        const step = Math.max(largest / steps, 2 ** grid.lsbExponent * (name === 'mxint4' ? 16 : 1));
        expect(Math.abs((decoded[i] ?? 0) - value)).toBeLessThanOrEqual(step);
      }
    }),
  );
});

test('what was decoded encodes to the same values', () => {
  fc.assert(
    fc.property(values, vectors, fc.nat(), (name, values, seed) => {
      const once = encodings[name].decode(encodings[name].encode(values, grid, seeded(seed)), values.length, grid);
      const twice = encodings[name].decode(encodings[name].encode(once, grid, seeded(seed + 1)), values.length, grid);
      expect(twice).toEqual(once);
    }),
  );
});

test('stochastic rounding has no bias: the mean of 20,000 draws is within four standard errors', () => {
  const value = 0.1003;
  const draws = new Float32Array(20_000).fill(value);
  const decoded = encodings.mxint8.decode(encodings.mxint8.encode(draws, grid, seeded(3)), draws.length, grid);
  const mean = decoded.reduce((sum, v) => sum + v, 0) / draws.length;
  const deviation = Math.sqrt(decoded.reduce((sum, v) => sum + (v - mean) ** 2, 0) / draws.length);
  expect(deviation).toBeGreaterThan(0);
  expect(Math.abs(mean - Math.fround(value))).toBeLessThan((4 * deviation) / Math.sqrt(draws.length));
});

test('a grid that would be too coarse to train is refused by the key to change', () => {
  expect(() => gridFor({ valueMaxExponent: 20, weightMax: 2 ** 23, cohortMax: 2 ** 30 })).toThrow(/lower weightMax/);
});

const stored = (payload: Uint8Array): StoredPayload => ({
  bytes: payload.length,
  read: (into, offset) => into.set(payload.subarray(offset, offset + into.length)),
});

test('a range of a payload that is read where it is kept is that of the whole', () => {
  fc.assert(
    fc.property(names, vectors, fc.nat(3), fc.nat(100), fc.nat(), shares, (name, some, block, more, seed, topK) => {
      const start = Math.min(32 * block, 32 * Math.floor(some.length / 32));
      const end = Math.min(start + more, some.length);
      const payload = encodings[name].encode(some, grid, seeded(seed), topK);
      const whole = encodings[name].decode(payload, some.length, grid);
      const ranges = encodings[name].open(stored(payload), some.length, grid);
      expect(ranges(start, end)).toEqual(whole.slice(start, end));
    }),
  );
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { extentOf, MagnitudeBins, quantileOf } from './magnitude-bins.ts';

const range = fc
  .record({
    low: fc.integer({ min: -30, max: 10 }),
    octaves: fc.integer({ min: 1, max: 40 }),
    precisionBits: fc.nat(6),
  })
  .map(({ low, octaves, precisionBits }) => ({ low, high: low + octaves, precisionBits }));
const numbers = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.double({ min: -1000, max: 1000, noNaN: true }),
);

describe('bins by magnitude', () => {
  test('a value is between the bounds of its bin, and the bin is as narrow as it promises', () => {
    fc.assert(
      fc.property(range, numbers, (given, value) => {
        const bins = new MagnitudeBins(given);
        const bin = bins.binOf(value);
        expect(bin).toBeGreaterThanOrEqual(0);
        expect(bin).toBeLessThan(bins.length);
        const { from, to } = bins.boundsOf(bin);
        const magnitude = Math.abs(value);
        if (magnitude < 2 ** given.low) {
          expect({ from, to }).toEqual({ from: 0, to: 0 });
          return;
        }
        expect(value).toBeGreaterThanOrEqual(from);
        expect(value).toBeLessThanOrEqual(to);
        if (magnitude < 2 ** given.high) expect(to - from).toBeLessThanOrEqual(magnitude * 2 ** -given.precisionBits);
        else expect(Number.isFinite(to - from)).toBe(false);
      }),
    );
  });

  test('bins follow one another without a gap, and larger values are in later bins', () => {
    const bins = new MagnitudeBins({ low: -2, high: 2, precisionBits: 1 });
    const all = Array.from({ length: bins.length }, (_, bin) => bins.boundsOf(bin));
    const zero = (bins.length - 1) / 2;
    for (let bin = 1; bin < bins.length; bin++) {
      const isAtZero = bin === zero || bin === zero + 1;
      expect(all[bin]!.from).toBe(isAtZero ? (bin === zero ? 0 : 0.25) : all[bin - 1]!.to);
    }
    expect(all.map((_, bin) => bin)).toEqual(all.map(({ from, to }) => bins.binOf(midOf(from, to))));
    fc.assert(
      fc.property(range, numbers, numbers, (given, a, b) => {
        const of = new MagnitudeBins(given);
        expect(of.binOf(Math.min(a, b))).toBeLessThanOrEqual(of.binOf(Math.max(a, b)));
      }),
    );
  });

  test('a quantile is wrong by no more than half of its bin', () => {
    fc.assert(
      fc.property(
        range,
        fc.array(fc.double({ min: -500, max: 500, noNaN: true }), { minLength: 1 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (given, values, share) => {
          const bins = new MagnitudeBins(given);
          const counts = Array<number>(bins.length).fill(0);
          for (const value of values) counts[bins.binOf(value)]! += 1;
          const filled = bins.filled(counts);
          const exact = values.toSorted((a, b) => a - b)[Math.max(1, Math.ceil(share * values.length)) - 1]!;
          const found = quantileOf(filled, share)!;
          const { min, max } = extentOf(filled)!;
          expect(Math.min(...values)).toBeGreaterThanOrEqual(min - 2 ** given.low);
          expect(Math.max(...values)).toBeLessThanOrEqual(max + 2 ** given.low);
          if (Math.abs(exact) >= 2 ** given.high) {
            expect(Math.abs(found)).toBe(2 ** given.high);
            return;
          }
          const bound = Math.max(2 ** given.low, Math.abs(exact) * 2 ** (-given.precisionBits - 1));
          expect(Math.abs(found - exact)).toBeLessThanOrEqual(bound * (1 + 1e-9));
        },
      ),
    );
  });

  test('without values there is nothing to say', () => {
    expect(quantileOf([], 0.5)).toBeUndefined();
    expect(extentOf([])).toBeUndefined();
  });
});

const midOf = (from: number, to: number): number => {
  if (!Number.isFinite(from)) return -1e9;
  return Number.isFinite(to) ? (from + to) / 2 : 1e9;
};

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BUCKETS, LogHistogram } from './log-histogram.ts';

const times = fc.array(fc.double({ min: 0.01, max: 100_000, noNaN: true }), { minLength: 1, maxLength: 200 });
const histogramOf = (values: readonly number[]): LogHistogram => {
  const histogram = new LogHistogram();
  for (const value of values) histogram.add(value);
  return histogram;
};

test('a quantile is at most 9 % off the value that it stands for', () => {
  fc.assert(
    fc.property(times, fc.double({ min: 0.01, max: 1, noNaN: true }), (values, q) => {
      const exact = values.toSorted((a, b) => a - b)[Math.ceil(q * values.length) - 1]!;
      const ratio = histogramOf(values).quantile(q) / exact;
      expect(ratio).toBeGreaterThan(2 ** (-1 / 8) - 1e-9);
      expect(ratio).toBeLessThan(2 ** (1 / 8) + 1e-9);
    }),
  );
});

test('parts add up to the whole, in any order, and are what their entries say', () => {
  fc.assert(
    fc.property(times, times, (a, b) => {
      const whole = [...histogramOf([...a, ...b]).entries()];
      const [ab, ba] = [histogramOf(a), histogramOf(b)];
      ab.merge(histogramOf(b));
      ba.merge(histogramOf(a));
      expect([...ab.entries()]).toEqual(whole);
      expect([...ba.entries()]).toEqual(whole);
      expect([...LogHistogram.of(whole).entries()]).toEqual(whole);
      expect(ab.count).toBe(a.length + b.length);
    }),
  );
});

test('bucket i begins at 2^(i/4 - 7) ms, and what lies beyond is in the first and the last', () => {
  for (let i = 1; i < BUCKETS; i += 1) {
    const from = 2 ** (i / 4 - 7);
    expect([...histogramOf([from * 1.0001]).entries()]).toEqual([[i, 1]]);
    expect([...histogramOf([from * 0.9999]).entries()]).toEqual([[i - 1, 1]]);
  }
  expect([...histogramOf([0, -1, 1e-9, Number.NaN]).entries()]).toEqual([[0, 4]]);
  expect([...histogramOf([1e12, Infinity]).entries()]).toEqual([[95, 2]]);
  expect(new LogHistogram().quantile(0.5)).toBeNaN();
});

test('a share of a histogram weighs so much', () => {
  const mixture = new LogHistogram();
  mixture.merge(histogramOf(Array.from({ length: 1000 }, () => 1)), 1 / 1000);
  mixture.merge(histogramOf([100]), 1);
  expect(mixture.quantile(0.5)).toBeCloseTo(2 ** (0.5 / 4), 6);
  expect(mixture.quantile(0.51)).toBeGreaterThan(90);
});

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Histogram } from './histogram.ts';
import { calibrationMethods as methods, rangeOf } from './ranges.ts';
import { seeded } from '../random/stream.ts';

const batch = fc
  .array(fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e20), max: Math.fround(1e20) }), {
    minLength: 1,
    maxLength: 40,
  })
  .map((list) => Float32Array.from(list));

function histogramOf(...batches: readonly Float32Array[]): Histogram {
  const histogram = new Histogram();
  for (const values of batches) histogram.add(values);
  return histogram;
}

test('histograms add up to the histogram of all numbers, in any order', () => {
  fc.assert(
    fc.property(fc.array(batch, { minLength: 1, maxLength: 5 }), (batches) => {
      const whole = histogramOf(Float32Array.from(batches.flatMap((values) => [...values]))).state();
      const merged = new Histogram();
      for (const values of batches.toReversed()) merged.merge(histogramOf(values));
      expect(merged.state()).toEqual(whole);
      expect(histogramOf(...batches).state()).toEqual(whole);
    }),
  );
});

test('no number is lost, and every bin is where its numbers are', () => {
  fc.assert(
    fc.property(batch, (values) => {
      const { counts, min, max } = histogramOf(values).state();
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(values.length);
      expect([min, max]).toEqual([Math.min(...values), Math.max(...values)]);
      expect(counts.length).toBeLessThanOrEqual(2048);
    }),
  );
});

test('numbers that are not finite are refused, and none at all is no range', () => {
  expect(() => histogramOf(Float32Array.of(1, NaN))).toThrow('infinity or NaN');
  expect(() => histogramOf(Float32Array.of(-Infinity))).toThrow('infinity or NaN');
  expect(() => new Histogram().state()).toThrow('give more calibration data');
});

test.each(methods)(
  '%s gives of histograms that were added up, in any order, the range that all numbers in one place have',
  (method) => {
    const shares = fc.array(batch, { minLength: 1, maxLength: 5 });
    const shuffled = shares.chain((given) =>
      fc.tuple(fc.constant(given), fc.shuffledSubarray(given, { minLength: given.length })),
    );
    fc.assert(
      fc.property(shuffled, ([batches, inOrder]) => {
        const merged = new Histogram();
        for (const values of inOrder) merged.merge(histogramOf(values));
        const whole = histogramOf(Float32Array.from(batches.flatMap((values) => [...values])));
        expect(rangeOf(merged, { method })).toEqual(rangeOf(whole, { method }));
      }),
    );
  },
);

test.each(methods)('%s gives a range within what was seen', (method) => {
  fc.assert(
    fc.property(batch, (values) => {
      const { min, max } = rangeOf(histogramOf(values), { method });
      expect(min).toBeGreaterThanOrEqual(Math.min(...values, 0));
      expect(max).toBeLessThanOrEqual(Math.max(...values, 0));
      expect(min).toBeLessThanOrEqual(max);
    }),
  );
});

test.each(['percentile', 'entropy', 'mse'] as const)('%s cuts off one far outlier, and minmax keeps it', (method) => {
  const random = seeded(3);
  const values = Float32Array.from({ length: 100_000 }, () => random.normal());
  values[5] = 100;
  const histogram = histogramOf(values);
  expect(rangeOf(histogram, { method: 'minmax' }).max).toBe(100);
  const { min, max } = rangeOf(histogram, { method, percentile: 99.99 });
  // One square of a far distance weighs as much as many small ones, so the least squared error cuts least.
  expect([max > 2, max < (method === 'mse' ? 90 : 60), min < -2]).toEqual([true, true, true]);
});

test('a constant has the range of that number', () => {
  for (const method of methods) {
    const { min, max } = rangeOf(histogramOf(new Float32Array(9).fill(3)), { method });
    expect([min <= 3, max]).toEqual([true, 3]);
  }
});

test('wider bins hold the same numbers, and add up to what all of them together would be in such bins', () => {
  fc.assert(
    fc.property(
      fc.array(batch, { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 3, max: 64 }),
      (batches, binsMax) => {
        const merged = new Histogram();
        for (const values of batches) merged.merge(histogramOf(values).coarse(binsMax));
        const whole = histogramOf(...batches).state();
        const { counts, min, max, exponent } = merged.state();
        expect(counts.reduce((sum, count) => sum + count, 0)).toBe(whole.counts.reduce((sum, count) => sum + count, 0));
        expect([min, max]).toEqual([whole.min, whole.max]);
        // Bins that are as wide hold as much, whoever widened them.
        let own = histogramOf(...batches);
        for (let bins = own.state().counts.length; own.state().exponent < exponent; bins -= 1)
          own = own.coarse(bins - 1);
        if (own.state().exponent === exponent) expect(merged.state()).toEqual(own.state());
      },
    ),
  );
});

test.each<[object, string]>([
  [{ exponent: 0.5 }, 'bins are 2^0.5 wide'],
  [{ exponent: 900 }, 'bins are 2^900 wide'],
  [{ counts: new Float64Array(0) }, 'it has 0 bins'],
  [{ counts: new Float64Array(4096) }, 'it has 4096 bins'],
  [{ counts: Float64Array.of(1, -1, 1) }, 'a count is no whole number'],
  [{ counts: Float64Array.of(1, NaN, 1) }, 'a count is no whole number'],
  [{ counts: Float64Array.of(2 ** 53 - 1, 2 ** 53 - 1, 1) }, 'it counts more than a number can say'],
  [{ min: NaN }, 'it goes from NaN to 2.5'],
  [{ min: 3 }, 'it goes from 3 to 2.5'],
  [{ max: 1e300 }, 'it goes from 0.5 to 1e+300'],
  [{ max: 7 }, 'its least or its largest number is in no bin'],
  [{ first: 1 }, 'its least or its largest number is in no bin'],
])('what cannot be a histogram is refused: %j', (change, words) => {
  const state = { exponent: 0, first: 0, counts: Float64Array.of(1, 0, 1), min: 0.5, max: 2.5 };
  expect(Histogram.from(state).state()).toEqual(state);
  expect(() => Histogram.from({ ...state, ...change })).toThrow(words);
});

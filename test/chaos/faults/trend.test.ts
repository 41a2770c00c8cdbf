import fc from 'fast-check';
import { expect, test } from 'vitest';
import { leastOfEach, trendOf, type Point } from './trend.ts';

/** As many minutes as the second half of a soak has. */
const MINUTES = 16;
const noise = fc.array(fc.double({ min: 0, max: 0.1, noNaN: true }), { minLength: MINUTES, maxLength: MINUTES });
const over = (values: readonly number[]): Point[] => values.map((value, minute) => [minute / 60, value]);

test('what grows is seen, however small beside what it grows on', () => {
  fc.assert(
    fc.property(noise, fc.double({ min: 6, max: 1000, noNaN: true }), (noise, perHour) => {
      const { slope, least } = trendOf(over(noise.map((each, minute) => 200 + each + (perHour * minute) / 60)));
      expect(slope).toBeGreaterThan(1);
      expect(slope).toBeCloseTo(perHour, -1);
      expect(least).toBeGreaterThan(1);
    }),
  );
});

test('what takes one step and stays there does not grow', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: MINUTES }), fc.double({ min: -50, max: 50, noNaN: true }), (at, step) => {
      const { least } = trendOf(over(Array.from({ length: MINUTES }, (_, minute) => (minute < at ? 200 : 200 + step))));
      expect(least).toBeLessThanOrEqual(0);
    }),
  );
});

test('the slope of a line is its own', () => {
  fc.assert(
    fc.property(fc.integer({ min: -100, max: 100 }), fc.integer({ min: 5, max: 40 }), (slope, count) => {
      const found = trendOf(Array.from({ length: count }, (_, x) => [x, slope * x]));
      expect(found).toEqual({ slope, least: slope });
    }),
  );
});

test('too few points say nothing', () => {
  expect(trendOf([])).toEqual({ slope: 0, least: -Infinity });
  expect(trendOf([[0, 1]])).toEqual({ slope: 0, least: -Infinity });
  expect(trendOf(over([1, 2])).least).toBe(-Infinity);
});

test('peaks within a minute are not looked at', () => {
  const points: Point[] = [
    [0, 5],
    [1, 9],
    [2, 4],
    [60, 7],
    [61, 3],
  ];
  expect(leastOfEach(points, 60)).toEqual([
    [2, 4],
    [61, 3],
  ]);
});

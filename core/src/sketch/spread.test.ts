import fc from 'fast-check';
import { expect, test } from 'vitest';
import { addedSpreads, difference, meanOf, NO_SPREAD, spreadOf } from './spread.ts';

const values = fc.array(fc.double({ min: -1000, max: 1000, noNaN: true }), { maxLength: 40 });

test('spreads of two parts add up to that of the whole', () => {
  fc.assert(
    fc.property(values, values, (a, b) => {
      const [parts, whole] = [addedSpreads(spreadOf(a), spreadOf(b)), spreadOf([...a, ...b])];
      expect(parts.count).toBe(whole.count);
      expect(parts.sum).toBeCloseTo(whole.sum, 6);
      expect(parts.squares).toBeCloseTo(whole.squares, 3);
    }),
  );
});

test('the mean, and the difference with its standard error, are those of the textbook', () => {
  expect(meanOf(spreadOf([1, 2, 3, 4]))).toBe(2.5);
  // Variances 5/3 and 1 of four and three values.
  const { mean, error } = difference(spreadOf([1, 2, 3, 4]), spreadOf([0, 1, 2]));
  expect(mean).toBe(1.5);
  expect(error).toBeCloseTo(Math.sqrt(5 / 3 / 4 + 1 / 3), 12);
  expect(meanOf(NO_SPREAD)).toBeNaN();
});

test('values that are all the same leave no doubt, whatever rounding does', () => {
  fc.assert(
    fc.property(fc.double({ min: -1e6, max: 1e6, noNaN: true }), fc.integer({ min: 1, max: 50 }), (value, count) => {
      const same = spreadOf(Array.from({ length: count }, () => value));
      expect(difference(same, same).error).toBeLessThanOrEqual(1e-6 * Math.max(1, Math.abs(value)));
    }),
  );
});

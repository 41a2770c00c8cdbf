import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { seeded } from '../random/stream.ts';
import { importanceOf, scoreOf, withShuffledColumn } from './permutation.ts';

test('one column is put in another order, and nothing else changes', () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 30 }), fc.integer({ min: 1, max: 5 }), fc.integer(), (rows, width, seed) => {
      const inputs = Float32Array.from({ length: rows * width }, (_, index) => index);
      const column = Math.abs(seed) % width;
      const shuffled = withShuffledColumn({ inputs, labels: new Int32Array(rows) }, column, seeded(seed));
      const own = (values: Float32Array): number[] => [...values].filter((_, index) => index % width === column);
      const others = (values: Float32Array): number[] => [...values].filter((_, index) => index % width !== column);
      expect(others(shuffled)).toEqual(others(inputs));
      expect(own(shuffled).toSorted((a, b) => a - b)).toEqual(own(inputs));
    }),
  );
});

test('scores: shares of right answers, yes or no by the sign, and minus the mean squared error', () => {
  expect(scoreOf('accuracy', [1, 2, 5, 1, 0, 3], [1, 0, 0])).toBe(2 / 3);
  expect(scoreOf('accuracy', [-0.5, 2], [0, 0])).toBe(1 / 2);
  expect(scoreOf('accuracy', [NaN, 0, 0, NaN, 1, 0], [0, 1, 0])).toBe(1 / 3);
  expect(scoreOf('accuracy', [NaN, 2], [0, 1])).toBe(1 / 2);
  expect(scoreOf('mse', [1, 2], [1, 4])).toBe(-2);
  expect(() => scoreOf('mse', [1, 2, 3, 4], [1, 4])).toThrow(
    'mse is for one number a row, and the model answers with 2',
  );
});

/** Fisher, Rudin and Dominici 2019, "All Models are Wrong, but Many are Useful", theorem 2: of a linear model it is twice w²·Var x. */
test('of a linear model that is right, a column is worth twice the square of its weight times its variance', () => {
  const random = seeded(1);
  const weights = [2, 0, -1];
  const rows = 20_000;
  const inputs = Float32Array.from({ length: rows * 3 }, () => random.normal());
  const answers = (values: Float32Array): number[] =>
    Array.from({ length: rows }, (_, row) => weights.reduce((sum, w, at) => sum + w * values[row * 3 + at]!, 0));
  const labels = answers(inputs);
  const drops = weights.map((_, column) => {
    const turns = [1, 2, 3].map((turn) =>
      scoreOf('mse', answers(withShuffledColumn({ inputs, labels }, column, seeded(turn))), labels),
    );
    return importanceOf(column, scoreOf('mse', answers(inputs), labels), turns).drop;
  });
  expect(drops[0]! / 8).toBeCloseTo(1, 1);
  expect(drops[1]).toBe(0);
  expect(drops[2]! / 2).toBeCloseTo(1, 1);
});

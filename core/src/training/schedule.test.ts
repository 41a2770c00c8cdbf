import fc from 'fast-check';
import { expect, test } from 'vitest';
import { rateFactor, type Schedule } from './schedule.ts';

const shape = fc.record({
  name: fc.constantFrom<Schedule['name']>('constant', 'step', 'cosine', 'linear'),
  warmUpSteps: fc.integer({ min: 0, max: 20 }),
  everySteps: fc.integer({ min: 1, max: 20 }),
  factor: fc.double({ min: 0, max: 1, noNaN: true }),
  floor: fc.double({ min: 0, max: 1, noNaN: true }),
});

test('a rate lies between nothing and its full height, rises while it warms up and never rises after', () => {
  fc.assert(
    fc.property(shape, fc.integer({ min: 1, max: 100 }), (schedule, steps) => {
      const factors = Array.from({ length: steps }, (_, step) => rateFactor(schedule, step, steps));
      for (const [step, factor] of factors.entries()) {
        expect(factor).toBeGreaterThanOrEqual(0);
        expect(factor).toBeLessThanOrEqual(1);
        const before = factors[step - 1];
        if (before === undefined) continue;
        if (step < schedule.warmUpSteps) expect(factor).toBeGreaterThan(before);
        if (step > schedule.warmUpSteps) expect(factor).toBeLessThanOrEqual(before + 1e-12);
      }
    }),
  );
});

test('known values', () => {
  expect([0, 1, 2, 3, 4].map((step) => rateFactor({ name: 'linear' }, step, 5))).toEqual([1, 0.75, 0.5, 0.25, 0]);
  expect([0, 1, 2, 3, 4].map((step) => rateFactor({ name: 'step', everySteps: 2, factor: 0.5 }, step, 5))).toEqual([
    1, 1, 0.5, 0.5, 0.25,
  ]);
  expect(rateFactor({ name: 'cosine', floor: 0.2 }, 2, 5)).toBeCloseTo(0.6, 12);
  expect([0, 1, 2, 3].map((step) => rateFactor({ name: 'constant', warmUpSteps: 3 }, step, 9))).toEqual([
    0.25, 0.5, 0.75, 1,
  ]);
});

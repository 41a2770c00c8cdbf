import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { summed } from '../../../test/support/summed-reports.ts';
import { parseStatisticsPlan, type StatisticsPlan } from './statistics-plan.ts';
import { StatisticsReports } from './statistics.ts';

describe('statistics', () => {
  const plan: StatisticsPlan = { features: 'each', low: -16, high: 16, precisionBits: 3, classes: 3 };
  const value = fc.oneof(
    { weight: 9, arbitrary: fc.float({ min: -1000, max: 1000, noNaN: true }) },
    { weight: 1, arbitrary: fc.constantFrom(NaN, Infinity, -Infinity, 0, -0, 1e30, -1e30, 1e-30) },
  );
  const examples = fc.array(fc.record({ row: fc.tuple(value, value), label: fc.integer({ min: -1, max: 4 }) }), {
    maxLength: 60,
  });

  const reportOf = (by: StatisticsReports, all: readonly { row: readonly number[]; label: number }[]): Float32Array =>
    by.report(
      Float32Array.from(all.flatMap(({ row }) => row)),
      all.map(({ label }) => label),
    );

  test.each(['each', 'all'] as const)(
    'features %s: however examples are spread over agents, and in whatever order, the result is the same',
    (features) => {
      const by = new StatisticsReports({ ...plan, features }, 2);
      fc.assert(
        fc.property(examples, fc.infiniteStream(fc.nat(3)), (all, places) => {
          const parts: (typeof all)[] = [[], [], [], []];
          for (const [i, one] of all.entries()) parts[[...places.take(i + 1)].at(-1)!]!.push(one);
          const one = by.result(summed([reportOf(by, all)], by.layout.length));
          const spread = by.result(summed(parts.map((part) => reportOf(by, part)).reverse(), by.layout.length));
          expect(spread).toEqual(one);
        }),
      );
    },
  );

  test('count, mean, variance, extremes and labels are those of the values, within what the plan says', () => {
    const by = new StatisticsReports(plan, 2);
    fc.assert(
      fc.property(examples, (all) => {
        const { examples: count, features, labels } = by.result(summed([reportOf(by, all)], by.layout.length));
        expect(count).toBe(all.length);
        const counted = [0, 1, 2].map((label) => all.filter((one) => one.label === label).length);
        expect(labels).toEqual([...counted, all.length - counted[0]! - counted[1]! - counted[2]!]);
        for (const [i, feature] of features.entries()) {
          const column = all.map(({ row }) => Math.fround(row[i]!));
          const finite = column.filter(Number.isFinite).map((x) => Math.max(-(2 ** 16), Math.min(2 ** 16, x)));
          expect({ count: feature.count, missing: feature.missing }).toEqual({
            count: finite.length,
            missing: column.length - finite.length,
          });
          if (finite.length === 0) {
            expect(feature.mean).toBeNaN();
            continue;
          }
          const mean = finite.reduce((sum, x) => sum + x, 0) / finite.length;
          expect(Math.abs(feature.mean - mean)).toBeLessThan(2 ** -20);
          const variance = finite.reduce((sum, x) => sum + (x - mean) ** 2, 0) / finite.length;
          // Each value is rounded to 2^-20: a square moves by twice the value times that.
          expect(Math.abs(feature.variance - variance)).toBeLessThan(2 ** -3 + 1e-9 * variance);
          expect(feature.variance).toBeGreaterThanOrEqual(0);
        }
      }),
    );
  });

  test('values that are large and close together do not lose their variance', () => {
    const by = new StatisticsReports({ ...plan, features: 'all' }, 1);
    const inputs = Float32Array.from({ length: 1000 }, (_, i) => 50_000 + (i % 2) / 4);
    const { features } = by.result(
      summed(
        [
          by.report(
            inputs,
            inputs.map(() => 0),
          ),
        ],
        by.layout.length,
      ),
    );
    expect(features[0]).toMatchObject({ count: 1000, mean: 50_000.125, variance: 1 / 64, min: 49_152, max: 53_248 });
  });

  test('a report that would be too long is refused by what makes it so', () => {
    expect(() => new StatisticsReports({ ...plan, precisionBits: 10 }, 200)).toThrow(
      /a report on 200 features has \d+ values, and 4194304 is the most: set features to all/,
    );
  });

  test.each<[unknown, RegExp]>([
    [[], /statistics must be an object/],
    [{ bins: 5 }, /statistics.bins is not known: the keys are features, classes/],
    [{ features: 'some' }, /statistics.features must be each or all/],
    [{ low: 3, high: 3 }, /statistics.high must be a whole number from 4 to 60/],
    [{ precisionBits: 11 }, /statistics.precisionBits must be a whole number from 0 to 10/],
  ])('a plan %j is refused by its key', (wrong, why) => {
    expect(() => parseStatisticsPlan(wrong, 10)).toThrow(why);
  });

  test('a plan has defaults', () => {
    expect(parseStatisticsPlan({ features: 'all' }, 7)).toEqual({ ...plan, features: 'all', classes: 7 });
  });
});

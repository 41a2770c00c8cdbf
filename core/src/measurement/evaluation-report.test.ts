import { describe, expect, test } from 'vitest';
import { summed } from '../../../test/support/summed-reports.ts';
import { EvaluationReports } from './evaluation-report.ts';

describe('evaluations', () => {
  const totals = [
    { metric: 'accuracy', name: 'right', output: 'r', shape: [] },
    { metric: 'accuracy', name: 'count', output: 'c', shape: [] },
    { metric: 'mae', name: 'distance', output: 'd', shape: [] },
    { metric: 'mae', name: 'count', output: 'n', shape: [] },
    { metric: 'f1', name: 'hits', output: 'h', shape: [2] },
    { metric: 'f1', name: 'predicted', output: 'p', shape: [2] },
    { metric: 'f1', name: 'actual', output: 'a', shape: [2] },
  ] as const;
  const found = (right: number, count: number, distance: number) => ({
    r: [right],
    c: [count],
    d: [distance],
    n: [count],
    h: [right, 0],
    p: [count, 0],
    a: [count, 0],
  });

  test('two weights on the examples of several agents: the metrics are those of all examples together, in any order', () => {
    const by = new EvaluationReports(totals, 2);
    const reports = [
      by.report(4, [found(2, 4, 1.5), found(3, 4, 1)]),
      by.report(6, [found(6, 6, 2.25), found(1, 6, 100.125)]),
    ];
    const [one, other] = by.result(summed(reports, by.layout.length));
    expect(one).toEqual({ examples: 10, metrics: { accuracy: 0.8, mae: 0.375, f1: 0.8 } });
    expect(other).toEqual({ examples: 10, metrics: { accuracy: 0.4, mae: 10.1125, f1: 0.4 } });
    expect(by.result(summed(reports.toReversed(), by.layout.length))).toEqual([one, other]);
  });

  test('what was not counted is no number, and is left out', () => {
    const by = new EvaluationReports(totals, 1);
    expect(by.result(summed([by.report(0, [found(0, 0, 0)])], by.layout.length))).toEqual([
      { examples: 0, metrics: { f1: 0 } },
    ]);
  });

  test('a sum that is no number is refused by its metric', () => {
    const by = new EvaluationReports(totals, 1);
    expect(() => by.report(1, [found(0, 1, Number.NaN)])).toThrow(/mae of the version is no number/);
    expect(() => by.report(1, [found(0, 1, 1e30)])).toThrow(RangeError);
  });

  test('what a candidate makes of the same examples may be no number: it counts as the worst that can be said', () => {
    const by = new EvaluationReports(totals, 2);
    for (const distance of [Number.NaN, Infinity, 1e30]) {
      const reports = [
        by.report(4, [found(2, 4, 1), found(2, 4, distance)]),
        by.report(4, [found(2, 4, 1), found(2, 4, 1)]),
      ];
      const [base, candidate] = by.result(summed(reports, by.layout.length));
      expect(base?.metrics.mae).toBe(0.25);
      expect(candidate?.metrics.mae).toBeCloseTo(2 ** 29, -2);
    }
  });
});

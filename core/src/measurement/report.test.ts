import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { summed } from '../../../test/support/summed-reports.ts';
import { digitsFor, readDigits, writeDigits } from './digits.ts';
import { ReportLayout } from './report.ts';

describe('reports', () => {
  test('sums of digits mean the sum of the numbers, of either sign', () => {
    const numbers = fc.array(fc.bigInt({ min: -(2n ** 90n), max: 2n ** 90n }), { maxLength: 50 });
    fc.assert(
      fc.property(numbers, (all) => {
        const count = digitsFor(91);
        const sums = new BigInt64Array(count);
        for (const number of all) {
          const digits = new Float32Array(count);
          writeDigits(digits, 0, count, number);
          digits.forEach((digit, i) => (sums[i] = sums[i]! + BigInt(digit)));
        }
        expect(readDigits(sums, 0, count)).toBe(all.reduce((sum, number) => sum + number, 0n));
      }),
    );
  });

  test('a layout keeps its numbers apart, and counts that float32 does not hold too', () => {
    const layout = new ReportLayout([
      { name: 'a', counts: 2, bits: 24 },
      { name: 'b', bits: 50 },
      { name: 'c', counts: 3, bits: 40 },
    ]);
    expect(layout.length).toBe(2 + 3 + 6);
    const report = layout.empty();
    layout.putCounts(report, 'a', [1, 2 ** 24]);
    layout.putNumber(report, 'b', -123_456_789_012n);
    layout.putCounts(report, 'c', [0, 2 ** 39 + 1, 5]);
    const sums = summed([report, report], layout.length);
    expect(layout.counts(sums, 'a')).toEqual([2, 2 ** 25]);
    expect(layout.number(sums, 'b')).toBe(-246_913_578_024n);
    expect(layout.counts(sums, 'c')).toEqual([0, 2 ** 40 + 2, 10]);
  });
});

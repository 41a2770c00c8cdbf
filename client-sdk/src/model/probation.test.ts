import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Latencies, PROBATION, tooSlow } from './probation.ts';

const latencies = (values: readonly number[]): Latencies => {
  const samples = new Latencies();
  for (const ms of values) samples.add(ms);
  return samples;
};
const times = (count: number, ms: number): number[] => Array.from({ length: count }, () => ms);

test('a version that is many times slower than the one before is too slow', () => {
  expect(tooSlow(latencies(times(50, 20)), latencies(times(50, 101)), PROBATION)).toBe(
    'its predictions take 101.0 ms (p95), those of the version before took 20.0 ms',
  );
});

test.each([
  ['a few times slower', times(50, 20), times(50, 100)],
  ['still fast', times(50, 1), times(50, 49)],
  ['hardly asked', times(50, 1), times(49, 1000)],
  ['compared with too few', times(49, 1), times(50, 1000)],
  ['slow in one of a hundred', times(100, 10), [...times(99, 10), 5000]],
])('a version that is %s is not', (_, before, now) => {
  expect(tooSlow(latencies(before), latencies(now), PROBATION)).toBeUndefined();
});

test('the p95 is one of the last 256 samples, and 95 in 100 of them are not above it', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(), { minLength: 1, maxLength: 600 }), (values) => {
      const p95 = latencies(values).p95() ?? -1;
      const last = values.slice(-256);
      expect(last).toContain(p95);
      expect(last.filter((value) => value <= p95).length).toBeGreaterThanOrEqual(last.length * 0.95);
    }),
  );
});

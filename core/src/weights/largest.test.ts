import fc from 'fast-check';
import { expect, test } from 'vitest';
import { thresholdOf } from './largest.ts';

const chosenBy = (values: Float32Array, count: number): number[] => {
  const bits = new Uint32Array(values.buffer);
  const threshold = thresholdOf(values, count);
  let { equal } = threshold;
  return [...values.keys()].filter((i) => {
    const magnitude = bits[i]! & 0x7fffffff;
    return magnitude > threshold.bits || (magnitude === threshold.bits && equal-- > 0);
  });
};

test('the threshold names the values that sorting would, the first of equal ones, and never a zero', () => {
  const values = fc
    .array(fc.oneof(fc.float(), fc.constantFrom(0, -0, 0.5, -0.5, Number.NaN, Infinity)), { maxLength: 200 })
    .map((some) => Float32Array.from(some));
  fc.assert(
    fc.property(values, fc.nat(220), (some, count) => {
      const magnitude = (i: number): number => new Uint32Array(some.buffer)[i]! & 0x7fffffff;
      const sorted = [...some.keys()]
        .filter((i) => magnitude(i) > 0)
        .sort((a, b) => magnitude(b) - magnitude(a) || a - b);
      expect(chosenBy(some, Math.min(count, some.length))).toEqual(sorted.slice(0, count).sort((a, b) => a - b));
    }),
  );
});

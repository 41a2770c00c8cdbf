import fc from 'fast-check';
import { expect, test } from 'vitest';
import { seeded } from '../random/stream.ts';
import { encodings } from '../weights/encoding.ts';
import { gridFor } from '../weights/grid.ts';
import { ExactSum } from './exact-sum.ts';
import { fromPlanes, sumBytes, toPlanes } from './packed-sum.ts';

const grid = gridFor({ valueMaxExponent: 3, weightMax: 10_000, cohortMax: 64 });

test('planes are the same sum in another order, whatever its integers are', () => {
  fc.assert(
    fc.property(
      fc.bigInt64Array({ maxLength: 40 }),
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      (values, header) => {
        const sum = new Uint8Array(sumBytes(values.length));
        sum.set(header);
        sum.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 32);
        expect(fromPlanes(toPlanes(sum))).toEqual(sum);
      },
    ),
  );
});

test('integers near zero fill the first plane alone', () => {
  const sum = new Uint8Array(sumBytes(3));
  sum.set(new Uint8Array(new BigInt64Array([1n, -1n, -100n]).buffer), 32);
  expect([...toPlanes(sum).subarray(32, 38)]).toEqual([2, 1, 199, 0, 0, 0]);
});

test('bytes of no sum are refused', () => {
  for (const size of [0, 31, 33, 47]) expect(() => fromPlanes(new Uint8Array(size))).toThrow(/partial sum/);
});

test('sums of updates are within their caps, and one with a larger value is not', () => {
  const random = seeded(1);
  const payload = encodings.float32.encode(new Float32Array(10).fill(8), grid, random);
  const sum = new ExactSum(10, grid);
  expect(sum.add('float32', payload, 10_000)).toBeUndefined();
  expect(sum.isWithinCaps).toBe(true);
  const bytes = sum.toBytes();
  new DataView(bytes.buffer).setBigInt64(32, new DataView(bytes.buffer).getBigInt64(32, true) * 2n, true);
  expect(ExactSum.fromBytes(bytes).isWithinCaps).toBe(false);
  new DataView(bytes.buffer).setBigInt64(32, -(2n ** 63n), true);
  expect(ExactSum.fromBytes(bytes).isWithinCaps).toBe(false);
});

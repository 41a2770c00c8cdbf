import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CodecError } from '../errors.ts';
import { seeded } from '../random/stream.ts';
import { publishedVersion, roundedVersion } from './downlink.ts';
import { encodeStep, stepped } from './step.ts';

const LENGTH = 20_000;
const drawn = (seed: number, deviation: number, length = LENGTH): Float32Array => {
  const random = seeded(seed);
  return Float32Array.from({ length }, () => random.normal() * deviation);
};
const sum = (a: Float32Array, b: Float32Array): Float32Array => a.map((value, i) => value + b[i]!);
const same = (a: Float32Array, b: Float32Array): boolean => Buffer.compare(bytesOf(a), bytesOf(b)) === 0;
const bytesOf = (values: Float32Array): Buffer => Buffer.from(values.buffer, values.byteOffset, values.byteLength);

const downlinks = ['mxint8', 'mxint4'] as const;

describe.each(downlinks)('versions in %s', (downlink) => {
  test('whoever has one makes the bytes of the next from the step, whatever the weights are', () => {
    const weights = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -1000, max: 1000 }), {
      minLength: 1,
      maxLength: 60,
    });
    fc.assert(
      fc.property(weights, weights, (some, others) => {
        const base = Float32Array.from(some);
        const wanted = base.map((value, i) => value + (others[i] ?? 0) / 100);
        const { step, weights: next } = roundedVersion(base, wanted, undefined, downlink)!;
        const bytes = encodeStep(step);
        expect(same(stepped(base, bytes), next)).toBe(true);
      }),
    );
  });

  test('what rounding leaves is carried on: after many versions the weights are those that were wanted, but for one step', () => {
    let version = { weights: drawn(1, 0.1), remainder: undefined as Float32Array | undefined };
    let exact: Float64Array = Float64Array.from(version.weights);
    let last = 0;
    for (let round = 0; round < 40; round++) {
      const delta = drawn(100 + round, 1e-3);
      const rounded = roundedVersion(version.weights, sum(version.weights, delta), version.remainder, downlink)!;
      exact = exact.map((value, i) => value + delta[i]!);
      last = 2 ** rounded.step.exponent;
      version = rounded;
    }
    for (const [i, value] of exact.entries()) {
      expect(Math.abs(version.weights[i]! + version.remainder![i]! - value)).toBeLessThan(1e-5);
      expect(Math.abs(version.remainder![i]!)).toBeLessThanOrEqual(last / 2 + 1e-7);
    }
  });

  test('one change in a hundred has a number larger than it is to have, and parameters that change more than all others move none of these', () => {
    const wanted = sum(drawn(1, 0.1), drawn(2, 1e-3));
    const plain = roundedVersion(drawn(1, 0.1), wanted, undefined, downlink)!;
    const hundredth = [...plain.step.numbers].map(Math.abs).sort((x, y) => y - x)[LENGTH / 100]!;
    expect(hundredth).toBeGreaterThanOrEqual(downlink === 'mxint8' ? 11 : 1);
    expect(hundredth).toBeLessThanOrEqual(downlink === 'mxint8' ? 23 : 1);
    wanted[5] = 1000;
    const { weights, step } = roundedVersion(drawn(1, 0.1), wanted, undefined, downlink)!;
    expect(Math.abs(weights[5]! - 1000)).toBeLessThanOrEqual(2 ** step.exponent);
    expect(Math.abs(step.exponent - plain.step.exponent)).toBeLessThanOrEqual(1);
  });

  test('nothing wanted is nothing sent, and what is not finite is no version', () => {
    const base = roundedVersion(drawn(1, 0.1), drawn(1, 0.1), undefined, downlink)!.weights;
    const { weights, step, remainder } = roundedVersion(base, base, undefined, downlink)!;
    expect(same(weights, base)).toBe(true);
    expect(remainder.every((value) => value === 0)).toBe(true);
    expect(encodeStep(step).length).toBeLessThan(60);
    expect(step.numbers.every((number) => number === 0)).toBe(true);
    for (const bad of [Number.NaN, Infinity]) {
      const wanted = base.slice();
      wanted[7] = bad;
      expect(roundedVersion(base, wanted, undefined, downlink)).toBeUndefined();
    }
  });
});

test('coarser is smaller', () => {
  const base = drawn(1, 0.1);
  const wanted = sum(base, drawn(2, 1e-3));
  const share = (downlink: 'mxint8' | 'mxint4'): number =>
    encodeStep(roundedVersion(base, wanted, undefined, downlink)!.step).length / (4 * LENGTH);
  expect(share('mxint8')).toBeLessThan(0.2);
  expect(share('mxint4')).toBeLessThan(0.09);
});

test.each([
  ['nothing', new Uint8Array()],
  ['other bytes', new Uint8Array(100).fill(7)],
])('%s is no step', (_, bytes) => expect(() => stepped(new Float32Array(3), bytes)).toThrow(CodecError));

test('a step for other weights, or with bytes behind it, is refused', () => {
  const bytes = encodeStep({ exponent: -10, numbers: Int32Array.of(1, 0, -1) });
  expect([...stepped(Float32Array.of(1, 2, 3), bytes)]).toEqual([1 + 2 ** -10, 2, 3 - 2 ** -10]);
  expect(() => stepped(new Float32Array(4), bytes)).toThrow(/does not fit 4/);
  expect(() => stepped(new Float32Array(3), Uint8Array.of(...bytes, 0))).toThrow(/longer than its numbers/);
  const far = bytes.slice();
  new DataView(far.buffer).setInt16(8, 4000, true);
  expect(() => stepped(new Float32Array(3), far)).toThrow(/exponent that no weight has/);
});

test('any bytes behind a header are a step or a CodecError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (rest) => {
      const header = encodeStep({ exponent: -3, numbers: new Int32Array(50) }).subarray(0, 10);
      try {
        expect(stepped(new Float32Array(50), Uint8Array.of(...header, ...rest))).toHaveLength(50);
      } catch (error) {
        expect(error).toBeInstanceOf(CodecError);
      }
    }),
    { numRuns: 500 },
  );
});

test('what was left is published too where versions travel whole again', () => {
  const base = { weights: drawn(1, 0.1), remainder: drawn(2, 1e-3) };
  const wanted = sum(base.weights, drawn(3, 1e-3));
  const { weights, remainder, step } = publishedVersion(base, wanted, 'float32');
  expect(same(weights, sum(wanted, base.remainder))).toBe(true);
  expect([remainder, step]).toEqual([undefined, undefined]);
  expect(publishedVersion({ weights: base.weights }, wanted, 'float32').weights).toBe(wanted);
  expect(publishedVersion(base, wanted, 'mxint8')).toEqual(
    roundedVersion(base.weights, wanted, base.remainder, 'mxint8'),
  );
});

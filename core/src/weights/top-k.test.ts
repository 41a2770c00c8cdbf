import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ExactSum } from '../aggregation/exact-sum.ts';
import { CodecError } from '../errors.ts';
import { seeded } from '../random/stream.ts';
import { encodings, valueEncodings, type ValueEncodingName } from './encoding.ts';
import { gridFor } from './grid.ts';
import { SPARSE_BLOCK } from './sparse-frame.ts';
import { encodeWithFeedback } from './update-format.ts';

const grid = gridFor({ valueMaxExponent: 3, weightMax: 1000, cohortMax: 100 });
const LENGTH = 2 * SPARSE_BLOCK + 1000;
const SHARES = [0.002, 0.03, 0.2, 0.7, 1] as const;

const drawn = (seed: number, length = LENGTH): Float32Array => {
  const random = seeded(seed);
  // Some parts of a model get no gradient at all.
  return Float32Array.from({ length }, (_, i) => (i % 1000 < 200 ? 0 : random.normal() * 0.01));
};

describe.each(Object.keys(valueEncodings) as ValueEncodingName[])('the largest values in %s', (values) => {
  const encoding = encodings[`topk-${values}`];

  test('are sent, as many as the share, and the rest is zero', () => {
    fc.assert(
      fc.property(fc.nat(), fc.constantFrom(...SHARES), fc.integer({ min: 1, max: LENGTH }), (seed, share, length) => {
        const all = drawn(seed, length);
        const payload = encoding.encode(all, grid, seeded(seed), share);
        const decoded = encoding.decode(payload, length, grid);
        const sent = [...decoded.keys()].filter((i) => decoded[i] !== 0);
        expect(sent.length).toBeLessThanOrEqual(Math.ceil(share * length));
        const threshold = all.map(Math.abs).sort()[length - Math.ceil(share * length)] ?? 0;
        for (const i of sent) expect(Math.abs(all[i]!)).toBeGreaterThanOrEqual(threshold);
        expect(payload.length).toBeLessThanOrEqual(encoding.bytesMax(length, share));
        expect(payload.length).toBeGreaterThanOrEqual(encoding.bytesMin(length));
      }),
      { numRuns: 30 },
    );
  });

  test('what is sent of a block is what the encoding of the values says, in the order of positions', () => {
    const all = drawn(3, 5000);
    const decoded = encoding.decode(encoding.encode(all, grid, seeded(9), 0.1), 5000, grid);
    const positions = [...all.keys()]
      .sort((a, b) => Math.abs(all[b]!) - Math.abs(all[a]!))
      .slice(0, 500)
      .sort((a, b) => a - b);
    const kept = Float32Array.from(positions, (position) => all[position]!);
    const of = valueEncodings[values];
    const alone = of.decode(of.encode(kept, grid, seeded(9)), kept.length, grid);
    expect([...positions.map((position) => decoded[position]!)]).toEqual([...alone]);
  });

  test('error feedback sends everything in the end: what was sent and what is left are what was wanted', () => {
    const delta = drawn(5, 3000);
    const sent = new Float64Array(delta.length);
    let residual: Float32Array | undefined;
    const random = seeded(6);
    for (let round = 0; round < 60; round++) {
      const format = { encoding: encoding.name, topK: 0.1 };
      const encoded = encodeWithFeedback({ delta, residual, format, grid, random });
      for (const [i, value] of encoding.decode(encoded.payload, delta.length, grid).entries()) sent[i]! += value;
      residual = encoded.residual;
    }
    for (const [i, value] of delta.entries()) expect(sent[i]! + residual![i]!).toBeCloseTo(60 * value, 4);
    const left = Math.hypot(...residual!) / Math.hypot(...delta);
    // 60 deltas were wanted, and each sent a tenth of the values: what waits is a few of them.
    expect(left).toBeLessThan(20);
  });

  test('a payload that is not one is refused, and nothing of it stays in the sum', () => {
    const payload = encoding.encode(drawn(1), grid, seeded(1), 0.05);
    const good = encoding.encode(drawn(2), grid, seeded(2), 0.2);
    const sum = new ExactSum(LENGTH, grid);
    sum.add(encoding.name, good, 5);
    const expected = sum.toBytes();
    const harmed = fc.record({ at: fc.nat(payload.length - 1), byte: fc.nat(255), cut: fc.nat(3), more: fc.nat(3) });
    fc.assert(
      fc.property(harmed, ({ at, byte, cut, more }) => {
        const bad = new Uint8Array(payload.length - cut + more);
        bad.set(payload.subarray(0, payload.length - cut));
        bad[at] = byte;
        const [fault, taken] = sum.addAll([
          { encoding: encoding.name, payload: bad, weight: 7 },
          { encoding: encoding.name, payload: good, weight: 3 },
        ]);
        expect(taken).toBeUndefined();
        sum.remove(encoding.name, good, 3);
        // It may still be an update, though another one: then it decodes.
        if (fault === undefined) {
          expect(() => encoding.decode(bad, LENGTH, grid)).not.toThrow();
          sum.remove(encoding.name, bad, 7);
        }
        expect(Buffer.compare(sum.toBytes(), expected)).toBe(0);
      }),
      { numRuns: 200 },
    );
  });

  test('positions that are not those that the table counts are refused where they stand', () => {
    const payload = encoding.encode(drawn(1), grid, seeded(1), 0.05);
    const view = new DataView(payload.buffer);
    const [first, second] = [view.getUint16(2, true), view.getUint16(6, true)];
    // A byte of positions moves from one block to the next: all sizes still add up.
    view.setUint16(2, first - 1, true);
    view.setUint16(6, second + 1, true);
    expect(new ExactSum(LENGTH, grid).add(encoding.name, payload, 1)).toBe('wrong-size');
    expect(() => encoding.decode(payload, LENGTH, grid)).toThrow(CodecError);
  });

  test('more values than a block has are refused before anything is made of them', () => {
    const payload = new Uint8Array(12);
    new DataView(payload.buffer).setUint16(0, 0xffff, true);
    expect(new ExactSum(LENGTH, grid).add(encoding.name, payload, 1)).toBe('wrong-size');
  });
});

test('bytes of an update of the FedAvg 2NN with a tenth of its values are a fraction of those of all', () => {
  const length = 199_210;
  const all = drawn(4, length);
  const bytes = (share: number): number => encodings['topk-mxint4'].encode(all, grid, seeded(1), share).length;
  expect(bytes(0.1) / valueEncodings.mxint4.byteLength(length)).toBeLessThan(0.35);
  expect(bytes(0.01) / valueEncodings.mxint4.byteLength(length)).toBeLessThan(0.04);
});

import { describe, expect, test } from 'vitest';
import { ExactSum } from '../aggregation/exact-sum.ts';
import { seeded } from '../random/stream.ts';
import { encodings, type EncodingName } from './encoding.ts';
import { gridFor } from './grid.ts';
import { decodeUpdate, encodeUpdate, encodeWithFeedback, sentLength, type UpdateFormat } from './update-format.ts';

const grid = gridFor({ valueMaxExponent: 3, weightMax: 1000, cohortMax: 100 });

const formats: UpdateFormat[] = [
  ...(Object.keys(encodings) as EncodingName[]).map((encoding) => ({
    encoding,
    topK: encodings[encoding].sends === 'all' ? 1 : 0.1,
  })),
  { encoding: 'mxint8', topK: 1, rotationSeed: 3n },
  { encoding: 'mxint4', topK: 1, rotationSeed: 3n },
];

describe.each(formats)('$encoding, share $topK, turned by $rotationSeed', (format) => {
  test('error feedback: what is sent plus what is left over is what was wanted', () => {
    const random = seeded(5);
    const delta = Float32Array.from({ length: 1000 }, () => random.normal() * 0.01);
    let residual: Float32Array | undefined;
    const sent = new Float64Array(1000);
    for (let round = 0; round < 20; round++) {
      const encoded = encodeWithFeedback({ delta, residual, format, grid, random });
      for (const [i, value] of decodeUpdate(encoded.payload, format, 1000, grid).entries()) sent[i]! += value;
      residual = encoded.residual;
    }
    for (const [i, value] of delta.entries()) expect(sent[i]! + residual![i]!).toBeCloseTo(20 * value, 5);
  });

  test('NaN is said as NaN: a sum refuses it, and the next update is free of it', () => {
    const delta = Float32Array.from({ length: 70 }, (_, i) => (i === 40 ? Number.NaN : i / 64));
    const { payload, residual } = encodeWithFeedback({ delta, residual: undefined, format, grid, random: seeded(1) });
    expect(decodeUpdate(payload, format, 70, grid)[40]).toBeNaN();
    expect(new ExactSum(sentLength(format, 70), grid).add(format.encoding, payload, 1)).toBe('not-finite');
    expect(residual.every(Number.isFinite)).toBe(true);
  });

  test('infinities leave nothing over that is not finite', () => {
    const delta = Float32Array.of(Infinity, -Infinity, 1);
    const all = { ...format, topK: 1 };
    const { payload, residual } = encodeWithFeedback({
      delta,
      residual: undefined,
      format: all,
      grid,
      random: seeded(1),
    });
    expect(residual.every(Number.isFinite)).toBe(true);
    const isTurned = format.rotationSeed !== undefined;
    // Turned, they meet each other and are no number.
    const fault = isTurned ? 'not-finite' : undefined;
    expect(new ExactSum(sentLength(format, 3), grid).add(format.encoding, payload, 1)).toBe(fault);
  });
});

describe('turning before four bits', () => {
  const plain: UpdateFormat = { encoding: 'mxint4', topK: 1 };
  const turned: UpdateFormat = { ...plain, rotationSeed: 1n };
  const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  /** Share of the length that is lost. */
  const errorOf = (values: Float32Array, format: UpdateFormat): number => {
    const decoded = decodeUpdate(encodeUpdate(values, format, grid, seeded(1)), format, values.length, grid);
    return norm(values.map((value, i) => value - decoded[i]!)) / norm(values);
  };
  const random = seeded(8);
  const withOneIn = (every: number, small: number): Float32Array =>
    Float32Array.from({ length: 8192 }, (_, i) => (i % every === 0 ? 1 : 0) + random.normal() * small);

  test('halves the error and more where one value stands out of each block', () => {
    const values = withOneIn(32, 0.1);
    expect(errorOf(values, turned)).toBeLessThan(errorOf(values, plain) / 2);
  });

  test.each([8, 64, 1024])('loses about a fifth whatever the values are: one large in %i', (every) => {
    for (const small of [0.01, 0.1, 0.3]) expect(errorOf(withOneIn(every, small), turned)).toBeLessThan(0.23);
  });
});

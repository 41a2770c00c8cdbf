/** Ranges that are chosen from given histograms, against onnxruntime's own calibration; see `quantize/make-thresholds.py`. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { affineOf, dequantize, quantize, type Range } from '../../core/src/quantize/affine.ts';
import { Histogram } from '../../core/src/quantize/histogram.ts';
import { rangeOf } from '../../core/src/quantize/ranges.ts';

interface Vector {
  name: string;
  exponent: number;
  first: number;
  counts: number[];
  min: number;
  max: number;
  percentile: Record<string, [number, number]>;
  entropy: Record<'128' | '256', [number, number]>;
}

const { vectors } = JSON.parse(readFileSync(join(import.meta.dirname, 'quantize', 'thresholds.json'), 'utf8')) as {
  vectors: Vector[];
};

/** The same counts; a histogram of ours ends where its numbers do. */
function histogramOf({ exponent, first, counts, min, max }: Vector): Histogram {
  const [from, to] = [counts.findIndex((count) => count > 0), counts.findLastIndex((count) => count > 0)];
  return Histogram.from({
    exponent,
    first: first + from,
    counts: Float64Array.from(counts.slice(from, to + 1)),
    min,
    max,
  });
}

const numbersIn = ({ counts }: Vector): number => counts.reduce((sum, count) => sum + count, 0);
/** How many numbers lie in bins that begin at this edge or further out. */
const above = ({ counts, exponent, first }: Vector, edge: number): number =>
  counts.reduce((sum, count, index) => sum + ((first + index) * 2 ** exponent >= edge ? count : 0), 0);

describe.each(vectors)('$name', (vector) => {
  test.each(Object.entries(vector.percentile))('%s percent of the numbers stay in range', (percent, [low, high]) => {
    const ours = rangeOf(histogramOf(vector), { method: 'percentile', percentile: Number(percent) });
    const width = 2 ** vector.exponent;
    const outside = (numbersIn(vector) * (1 - Number(percent) / 100)) / 2;
    expect(ours.min).toBe(low);
    // The tool takes the lower edge of the bin in which the percentile lies, so that all numbers of that bin are cut off, more than
    // were to be; ours takes the upper edge. It adds up shares, so where whole bins come to exactly what may go, its sum can miss that.
    const cut = above(vector, ours.max);
    expect(cut).toBeLessThanOrEqual(outside + 1e-9);
    if (Math.abs(cut - outside) < 1e-9 && high >= ours.max) return;
    expect(ours.max).toBe(Math.min(high + width, vector.max));
    expect(above(vector, high)).toBeGreaterThan(outside - 1e-9);
  });

  test('the range of least divergence', () => {
    const ours = rangeOf(histogramOf(vector), { method: 'entropy' });
    const [low, high] = vector.entropy['256'];
    if (vector.min < 0) {
      // Edges of levels lie elsewhere (the tool leaves a bin that does not divide to the last level), so the least divergence may too.
      const ratio = Math.max(-ours.min, ours.max) / Math.max(-low, high);
      expect([ratio > 0.75, ratio < 1.25]).toEqual([true, true]);
      return;
    }
    // Behind a Relu ours gives all 256 levels to the one side that there is, and leaves the zeros out of the count, which need none. The tool
    // gives half of the levels to the empty side, and the zeros outweigh the rest, so that it cuts off what should stay.
    expect(ours.max).toBeGreaterThan(high);
    expect(errorOf(vector, ours)).toBeLessThan(errorOf(vector, { min: low, max: high }));
  });
});

/** Squared error of rounding the middle of each bin to uint8. */
function errorOf({ counts, exponent, first }: Vector, range: Range): number {
  const values = Float32Array.from(counts, (_, index) => (first + index + 0.5) * 2 ** exponent);
  const affine = affineOf(range, 'uint8');
  const rounded = dequantize(quantize(values, affine), affine);
  return counts.reduce((sum, count, index) => sum + count * (values[index]! - rounded[index]!) ** 2, 0);
}

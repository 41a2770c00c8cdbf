import { describe, expect, test } from 'vitest';
import { adaptiveClipping, nextEstimate, normZeroing } from './adaptive-norm.ts';
import type { UpdateBlocks } from './updates.ts';

const updatesOf = (rows: readonly number[][], weights: readonly number[] = rows.map(() => 1)): UpdateBlocks => ({
  count: rows.length,
  length: rows[0]!.length,
  weights,
  read: (update, start, end) => Float32Array.from(rows[update]!.slice(start, end)),
});

test('the estimate follows the norms: the values that TensorFlow Federated publishes for {5, 2.5} from 16, quantile 0, rate ln 2', () => {
  let estimate = 16;
  const seen = [0, 1, 2, 3].map(
    () => (estimate = nextEstimate(estimate, [5, 2.5], { quantile: 0, learningRate: Math.LN2 })),
  );
  for (const [i, wanted] of [8, 4, 2.828427, 2.828427 / Math.SQRT2].entries()) expect(seen[i]).toBeCloseTo(wanted, 5);
  // Nothing is below 2: there it stays.
  expect(nextEstimate(2, [5, 2.5], { quantile: 0, learningRate: Math.LN2 })).toBe(2);
});

describe('zeroing', () => {
  test('2 of 1, 2, 5 leaves 1 and 2', () => {
    const options = { quantile: 0.5, learningRate: 0.2, firstNorm: 2, multiplier: 1, increment: 0 };
    const { delta, kept } = normZeroing(updatesOf([[1], [2], [5]]), [], options);
    expect(kept).toEqual([0, 1]);
    expect(delta).toEqual(Float32Array.of(1.5));
  });

  test('goes on with the estimate that it remembers', () => {
    const options = { quantile: 0.5, learningRate: Math.LN2, firstNorm: 100, multiplier: 1, increment: 0 };
    const updates = updatesOf([
      [3, 4],
      [0, 8],
    ]);
    const first = normZeroing(updates, [], options);
    expect(first.kept).toEqual([0, 1]);
    // All were within, half may be: 2 to the -1/2.
    expect(first.memory?.[0]?.[0]).toBeCloseTo(100 / Math.SQRT2, 4);
    expect(first.memory?.[0]).toHaveLength(2);
    const second = normZeroing(updates, [Float32Array.of(6, 0)], options);
    expect(second.kept).toEqual([0]);
    expect(second.delta).toEqual(Float32Array.of(3, 4));
  });
});

describe('adaptive clipping', () => {
  test('2 of 1, 3, 5 adds up to 5, as TensorFlow Federated publishes', () => {
    const { delta } = adaptiveClipping(updatesOf([[1], [3], [5]]), [], {
      quantile: 0.5,
      learningRate: 0.2,
      firstNorm: 2,
    });
    expect(delta[0]).toBeCloseTo(5 / 3, 6);
  });

  test('weights count: 7/4 of 1, 3, 5 with the weights 1, 1, 2', () => {
    const { delta } = adaptiveClipping(updatesOf([[1], [3], [5]], [1, 1, 2]), [], {
      quantile: 0.5,
      learningRate: 0.2,
      firstNorm: 2,
    });
    expect(delta[0]).toBeCloseTo(7 / 4, 6);
  });

  test('begins at the quantile of the first round, and an update of zeros stays one', () => {
    const { delta, memory } = adaptiveClipping(updatesOf([[0], [4], [8]]), [], { quantile: 0.6, learningRate: 0.2 });
    expect(delta[0]).toBeCloseTo(8 / 3, 6);
    expect(memory?.[0]?.[0]).toBeCloseTo(4 * Math.exp(-0.2 * (2 / 3 - 0.6)), 5);
  });
});

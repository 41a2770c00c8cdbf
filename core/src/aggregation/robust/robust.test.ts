import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { seeded } from '../../random/stream.ts';
import { bulyan } from './bulyan.ts';
import { centredClipping, normBoundedMean } from './clipping.ts';
import { geometricMedian } from './geometric-median.ts';
import { multiKrum } from './krum.ts';
import { coordinateMedian, trimmedMean } from './order-statistics.ts';
import { plainRows } from './plain-rows.ts';
import { trustedMean } from './trusted-mean.ts';
import { eachBlock, type RobustAggregate, type UpdateBlocks } from './updates.ts';

function updatesOf(vectors: readonly ArrayLike<number>[], weights: readonly number[] = []): UpdateBlocks {
  const updates = vectors.map((values) => Float32Array.from(values));
  return {
    count: updates.length,
    length: updates[0]!.length,
    weights: updates.map((_, i) => weights[i] ?? 1),
    read: (update, start, end) => updates[update]!.slice(start, end),
  };
}

const scalars = (...values: number[]): UpdateBlocks => updatesOf(values.map((value) => [value]));
const four = (value: number): number[] => [value, value, value, value];
const close = ({ delta }: RobustAggregate, expected: readonly number[]): void => {
  expect(delta.length).toBe(expected.length);
  for (const [i, value] of delta.entries()) expect(value).toBeCloseTo(expected[i]!, 6);
};

describe('known answers', () => {
  const rows = updatesOf([
    [1, 2, 3],
    [4, 5, 6],
    [7, 8, 9],
  ]);

  test('the values that Flower publishes', () => {
    expect(multiKrum(updatesOf([0.2, 0.7, 1].map(four)), { attackers: 1, keep: 1 }).kept).toEqual([1]);
    close(multiKrum(updatesOf([0.2, 0.7, 1].map(four)), { attackers: 1, keep: 1 }), four(0.7));
    close(multiKrum(updatesOf([0.2, 0.5, 1].map(four)), { attackers: 1, keep: 2 }), four(0.35));
    close(coordinateMedian(updatesOf([0.2, 1, 0.5].map(four))), four(0.5));
    const rotated = [
      [0.5, 0.5, 0.5, 0.5],
      [1, 0.2, 0.5, 1],
      [0.2, 0.5, 1, 0.2],
      [0.5, 1, 0.2, 0.5],
    ];
    close(trimmedMean(updatesOf(rotated), 0.25), four(0.5));
    close(trimmedMean(scalars(0.5, 1, 2, 100), 0.25), [1.5]);
    close(bulyan(scalars(0.2, 0.5, 0.7, 12, 0.1, 0.1), { attackers: 0 }), [2.2666667]);
  });

  test('trust by the formulas of its paper: as long as the root, as heavy as its cosine, and none for who points away', () => {
    const updates = updatesOf([
      [2, 0],
      [6, 8],
      [0, 5],
      [-9, 1],
      [0, 0],
    ]);
    // cos = 0.6, 0, -, and none of what has no direction: only the second counts, shortened from 10 to 2.
    close(trustedMean({ ...updates, root: 0 }), [1.2, 1.6]);
    expect(trustedMean({ ...updates, root: 0 }).kept).toEqual([1]);
    const two = updatesOf([
      [3, 4],
      [1, 0],
      [8, 6],
    ]);
    // cos = 0.6 and 0.8, and what has the length 1 there is (0.6, 0.8) and (0.8, 0.6).
    close(trustedMean({ ...two, root: 1 }), [1 / 1.4, 0.96 / 1.4]);
    expect(
      trustedMean({
        ...updatesOf([
          [1, 0],
          [-1, 0],
        ]),
        root: 0,
      }),
    ).toEqual({ delta: new Float32Array(2), kept: [] });
  });

  test('the values that ByzFL publishes', () => {
    close(coordinateMedian(rows), [4, 5, 6]);
    close(trimmedMean(rows, 1 / 3), [4, 5, 6]);
    close(centredClipping(rows, undefined, { clipNorm: 100, iterations: 1 }), [4, 5, 6]);
    close(geometricMedian(rows, { smoothing: 0.1, iterations: 3 }), [3.78788764, 4.78788764, 5.78788764]);
    close(multiKrum(rows, { attackers: 1, keep: 1 }), [1, 2, 3]);
    close(multiKrum(rows, { attackers: 1, keep: 2 }), [2.5, 3.5, 4.5]);
  });

  test('TensorFlow Federated: clipping 1, 3 and 5 to 2 sums to 5', () => {
    close(normBoundedMean(scalars(1, 3, 5), 2), [5 / 3]);
    // Weights 2, 1, 1: (2 · 1 + 2 + 2) / 4.
    close(normBoundedMean(updatesOf([[1], [3], [5]], [2, 1, 1]), 2), [1.5]);
    // By default the bound is the median norm, 3.
    close(normBoundedMean(scalars(1, 3, 5)), [7 / 3]);
  });

  test('Krum sums the n − f − 2 nearest, not one more, which would choose another', () => {
    // n = 5, f = 1: by two neighbours 0 has the least, .98 before 2.45; by three .7 would, 7.74 before 9.98.
    expect(multiKrum(scalars(-0.7, 0, 0.7, 3, 3.1), { attackers: 1, keep: 1 }).kept).toEqual([1]);
  });

  test('Bulyan by hand: of seven Krum keeps five, and of these each value is the mean of the three nearest to the median', () => {
    const { delta, kept } = bulyan(scalars(1, 1.1, 1.2, 1.3, 1.4, 50, -50), { attackers: 1 });
    expect(kept).toEqual([0, 1, 2, 3, 4]);
    expect(delta[0]).toBeCloseTo(1.2, 6);
  });

  test('centred clipping begins at the centre and steps no further than the norm', () => {
    const centre = Float32Array.of(10);
    close(centredClipping(scalars(12, 11, 1000), centre, { clipNorm: 2, iterations: 1 }), [10 + (2 + 1 + 2) / 3]);
    // From 11.667: steps .333, −.667 and 2.
    close(centredClipping(scalars(12, 11, 1000), centre, { clipNorm: 2, iterations: 2 }), [11.6666667 + 5 / 9]);
    // Distances 2, 1 and 990: their median is 2.
    close(centredClipping(scalars(12, 11, 1000), centre, { iterations: 1 }), [10 + 5 / 3]);
  });

  test('the geometric median of a line weighs: half of the weight decides', () => {
    const line = updatesOf([[0], [1], [5]], [1, 1, 3]);
    expect(geometricMedian(line, { smoothing: 1e-6, iterations: 60 }).delta[0]).toBeCloseTo(5, 3);
  });
});

const rules: Record<string, (updates: UpdateBlocks) => RobustAggregate> = {
  coordinateMedian,
  trimmedMean: (updates) => trimmedMean(updates, 0.2),
  krum: (updates) => multiKrum(updates, { attackers: 1, keep: 1 }),
  multiKrum: (updates) => multiKrum(updates, { attackers: 1, keep: Math.max(1, updates.count - 1) }),
  bulyan: (updates) => bulyan(updates, { attackers: 1 }),
  geometricMedian: (updates) => geometricMedian(updates, { smoothing: 1e-6, iterations: 8 }),
  centredClipping: (updates) => centredClipping(updates, undefined, { iterations: 1 }),
  normBoundedMean: (updates) => normBoundedMean(updates),
};

/** Up to a dozen updates, longer than one block now and then. */
const cohorts = fc
  .record({ count: fc.integer({ min: 1, max: 12 }), length: fc.constantFrom(1, 31, 33, 70, 9001), seed: fc.nat() })
  .map(({ count, length, seed }) => {
    const random = seeded(seed);
    return Array.from({ length: count }, () => Float32Array.from({ length }, () => random.normal()));
  });

describe.each(Object.entries(rules))('%s', (name, rule) => {
  test('one update alone gives itself', () => {
    fc.assert(
      fc.property(cohorts, ([first]) => {
        expect(rule(updatesOf([first!])).delta).toEqual(first);
      }),
      { numRuns: 20 },
    );
  });

  test('identical updates give that update', () => {
    fc.assert(
      fc.property(cohorts, (cohort) => {
        expect(rule(updatesOf(cohort.map(() => cohort[0]!))).delta).toEqual(cohort[0]);
      }),
      { numRuns: 20 },
    );
  });

  test('each parameter lies within the range of its values', () => {
    fc.assert(
      fc.property(cohorts, (cohort) => {
        const { delta } = rule(updatesOf(cohort));
        // Those that shorten updates draw them towards zero, which is their centre.
        const zero = ['centredClipping', 'normBoundedMean'].includes(name) ? [0] : [];
        const outside = delta.filter((value, i) => {
          const values = [...cohort.map((update) => update[i]!), ...zero];
          return value < Math.min(...values) || value > Math.max(...values);
        });
        expect(outside).toHaveLength(0);
      }),
      { numRuns: 20 },
    );
  });

  test('fewer than a third of attackers, however far, leave it near the honest', () => {
    fc.assert(
      fc.property(fc.nat(), fc.constantFrom(10, 1e3, 1e6), (seed, reach) => {
        const random = seeded(seed);
        const honest = Array.from({ length: 9 }, () =>
          Float32Array.from({ length: 40 }, () => 1 + random.normal() * 0.01),
        );
        const hostile = Float32Array.from({ length: 40 }, () => -reach * (1 + random.uniform()));
        const updates = random.shuffle([...honest, hostile]);
        const { delta, kept } = rule(updatesOf(updates));
        if (kept !== undefined) expect(kept.map((update) => updates[update])).not.toContain(hostile);
        // A step of one honest length in ten goes the wrong way where lengths are bounded.
        for (const value of delta) {
          expect(value).toBeGreaterThan(0.7);
          expect(value).toBeLessThan(1.1);
        }
      }),
      { numRuns: 20 },
    );
  });
});

test('the order of updates never shows in medians and trimmed means, bit for bit', () => {
  fc.assert(
    fc.property(cohorts, fc.nat(), (cohort, seed) => {
      const shuffled = seeded(seed).shuffle([...cohort]);
      for (const rule of [rules['coordinateMedian']!, rules['trimmedMean']!]) {
        expect(rule(updatesOf(shuffled))).toEqual(rule(updatesOf(cohort)));
      }
    }),
    { numRuns: 30 },
  );
});

test('Krum and its kin choose the same updates in whatever order', () => {
  fc.assert(
    fc.property(cohorts, fc.nat(), (cohort, seed) => {
      fc.pre(cohort.length >= 7);
      const shuffled = seeded(seed).shuffle([...cohort]);
      for (const rule of [rules['krum']!, rules['multiKrum']!]) {
        const chosen = (vectors: Float32Array[]): Set<Float32Array> =>
          new Set(rule(updatesOf(vectors)).kept!.map((update) => vectors[update]!));
        expect(chosen(shuffled)).toEqual(chosen(cohort));
      }
    }),
    { numRuns: 30 },
  );
});

test('up to f colluding attackers never come into the choice of Krum while the honest stand together', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 5 }), fc.nat(), (attackers, more, seed) => {
      const random = seeded(seed);
      const vector = (mean: number, spread: number): Float32Array =>
        Float32Array.from({ length: 33 }, () => mean + random.normal() * spread);
      const honest = Array.from({ length: attackers + 3 + more }, () => vector(0, 0.1));
      // All at one place: to each other they are as near as can be.
      const place = vector(50, 20);
      const updates = random.shuffle([...honest, ...Array.from({ length: attackers }, () => place.slice())]);
      for (const keep of [1, honest.length]) {
        const { kept } = multiKrum(updatesOf(updates), { attackers, keep });
        for (const update of kept!) expect(honest).toContain(updates[update]);
      }
    }),
    { numRuns: 50 },
  );
});

test('blocks bring every value once, side by side, with zeros past the end', () => {
  fc.assert(
    fc.property(cohorts, (cohort) => {
      const seen = cohort.map(() => new Float32Array(cohort[0]!.length));
      let expectedStart = 0;
      eachBlock(
        updatesOf(cohort),
        (rows, start, end) => {
          expect(start).toBe(expectedStart);
          expectedStart = end;
          for (const [row, to] of seen.entries()) {
            const values = rows.values.subarray(row * rows.width, (row + 1) * rows.width);
            to.set(values.subarray(0, end - start), start);
            expect(values.subarray(end - start).every((value) => value === 0)).toBe(true);
          }
        },
        undefined,
        plainRows,
      );
      expect(seen).toEqual(cohort);
    }),
    { numRuns: 20 },
  );
});

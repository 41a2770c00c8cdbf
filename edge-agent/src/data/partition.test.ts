import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DataError } from './dataset.ts';
import { dealOut, partOf } from './partition.ts';

const dealt = (labels: Int32Array, parts: number, alpha: number, seed: number): number[][] =>
  Array.from({ length: parts }, (_, index) =>
    partOf(labels, labels.length, { by: 'dirichlet', index, parts, alpha, seed }),
  );

const tenClasses = Int32Array.from({ length: 2000 }, (_, i) => i % 10);
const by = (a: number, b: number): number => a - b;

test('each example is in exactly one part, no part is nearly empty, and the same seed deals the same', () => {
  const setting = fc.record({
    parts: fc.integer({ min: 1, max: 12 }),
    alpha: fc.oneof(fc.constantFrom(1e-9, 0.001, 0.05, 1e6), fc.double({ min: 0.01, max: 100, noNaN: true })),
    seed: fc.maxSafeInteger(),
    classes: fc.integer({ min: 1, max: 12 }),
    spare: fc.nat(60),
  });
  fc.assert(
    fc.property(setting, ({ parts, alpha, seed, classes, spare }) => {
      const labels = Int32Array.from({ length: parts * 10 + spare }, (_, i) => (i * 7) % classes);
      const split = dealt(labels, parts, alpha, seed);
      expect(split.flat().sort(by)).toEqual(Array.from(labels.keys()));
      for (const part of split) expect(part.length).toBeGreaterThanOrEqual(10);
      expect(dealt(labels, parts, alpha, seed)).toEqual(split);
    }),
    { numRuns: 200 },
  );
});

test('another seed deals otherwise', () => {
  expect(dealt(tenClasses, 5, 1, 1)).not.toEqual(dealt(tenClasses, 5, 1, 2));
});

test('a large alpha is near to IID, a small one gives each agent few classes', () => {
  /** Share of the commonest label, averaged over the parts: 0.1 where the ten classes are even. */
  const commonest = (alpha: number): number => {
    const shares = dealt(tenClasses, 10, alpha, 3).map((part) => {
      const counts = new Map<number, number>();
      for (const i of part) counts.set(tenClasses[i] ?? 0, (counts.get(tenClasses[i] ?? 0) ?? 0) + 1);
      return Math.max(...counts.values()) / part.length;
    });
    return shares.reduce((sum, share) => sum + share, 0) / shares.length;
  };
  expect(commonest(1e5)).toBeLessThan(0.12);
  expect(commonest(0.05)).toBeGreaterThan(0.5);
});

test('too few examples and a part that is not there are refused', () => {
  const few = new Int32Array(19);
  expect(() => partOf(few, few.length, { by: 'dirichlet', index: 0, parts: 2, alpha: 1, seed: 1 })).toThrow(
    '19 examples are too few for 2 parts',
  );
  expect(() => partOf(few, few.length, { by: 'dirichlet', index: 2, parts: 2, alpha: 1, seed: 1 })).toThrow(DataError);
  expect(() => partOf(few, few.length, { by: 'dirichlet', index: 2, parts: 2, alpha: 1, seed: 1 })).toThrow(
    'the first part is 0/2, the last 1/2',
  );
});

test('IID parts and shards deal everything out once, the shards as the FedAvg paper cuts them', () => {
  for (const dealing of [{ by: 'iid' } as const, { by: 'shards', shards: 2 } as const]) {
    const parts = dealOut(tenClasses, tenClasses.length, { ...dealing, parts: 10, seed: 3 });
    expect(parts.flat().sort(by)).toEqual(Array.from(tenClasses.keys()));
    for (const part of parts) expect(part).toHaveLength(200);
    expect(dealOut(tenClasses, tenClasses.length, { ...dealing, parts: 10, seed: 3 })).toEqual(parts);
    expect(dealOut(tenClasses, tenClasses.length, { ...dealing, parts: 10, seed: 4 })).not.toEqual(parts);
  }
  // 20 shards of 100 examples, so each is of one class.
  for (const part of dealOut(tenClasses, tenClasses.length, { by: 'shards', shards: 2, parts: 10, seed: 3 })) {
    expect(new Set(part.map((i) => tenClasses[i])).size).toBeLessThanOrEqual(2);
  }
});

test('examples without classes are dealt out evenly, and by nothing else', () => {
  const parts = dealOut(undefined, 25, { by: 'iid', parts: 2, seed: 1 });
  expect(parts.map((part) => part.length)).toEqual([12, 13]);
  expect(parts.flat().sort(by)).toEqual(Array.from({ length: 25 }, (_, i) => i));
  expect(() => dealOut(undefined, 25, { by: 'shards', shards: 2, parts: 2, seed: 1 })).toThrow(
    'there are no classes to deal examples out by (shards): deal them out evenly, by iid',
  );
});

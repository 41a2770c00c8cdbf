import fc from 'fast-check';
import { expect, test } from 'vitest';
import { inBatches } from './in-batches.ts';

test('each has its turn, in order, and others theirs after no more than 64', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: 1_000 }), async (count) => {
      const done: number[] = [];
      const breaths: number[] = [];
      const items = Array.from({ length: count }, (_, i) => i);
      await inBatches(
        items,
        (item) => void done.push(item),
        async () => void breaths.push(done.length),
      );
      expect(done).toEqual(items);
      const marks = [0, ...breaths, count];
      for (const [i, mark] of marks.slice(1).entries()) expect(mark - marks[i]!).toBeLessThanOrEqual(64);
      // The last batch has nobody after it.
      expect(breaths.at(-1) ?? 0).toBeLessThanOrEqual(Math.max(0, count - 1));
    }),
  );
});

test('what fails ends it', async () => {
  const done: number[] = [];
  const work = (item: number): void => {
    if (item === 2) throw new Error('no');
    done.push(item);
  };
  await expect(inBatches([1, 2, 3], work, async () => {})).rejects.toThrow('no');
  expect(done).toEqual([1]);
});

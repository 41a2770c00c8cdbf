import fc from 'fast-check';
import { expect, test } from 'vitest';
import { nextBatch, type Waiting } from './next-batch.ts';

const policy = { batchMax: 4, batchDelayMs: 10 };
const waiting = (sinceMs: number, rows = 1, key: string | undefined = 'k'): Waiting => ({ sinceMs, rows, key });

test('a request waits for others for as long as it may', () => {
  expect(nextBatch([waiting(100)], policy, 103)).toEqual({ waitMs: 7 });
  expect(nextBatch([waiting(100)], policy, 110)).toEqual({ run: [waiting(100)] });
});

test('a full batch runs at once', () => {
  const queue = [1, 2, 3, 4, 5].map((sinceMs) => waiting(sinceMs));
  expect(nextBatch(queue, policy, 5)).toEqual({ run: queue.slice(0, 4) });
});

test('a batch that the next request does not fit into is full', () => {
  const queue = [waiting(1, 3), waiting(2, 2)];
  expect(nextBatch(queue, policy, 2)).toEqual({ run: [queue[0]] });
});

test('more rows than fit run alone, and so does what has no rows', () => {
  expect(nextBatch([waiting(1, 9)], policy, 1)).toEqual({ run: [waiting(1, 9)] });
  const odd: Waiting = { sinceMs: 1, rows: 1, key: undefined };
  expect(nextBatch([odd], policy, 1)).toEqual({ run: [odd] });
});

test('another shape that is full does not wait for the first', () => {
  const others = [2, 3, 4, 5].map((sinceMs) => waiting(sinceMs, 1, 'other'));
  expect(nextBatch([waiting(1), ...others], policy, 5)).toEqual({ run: others });
});

const queues = fc
  .array(
    fc.record({ gapMs: fc.nat(20), rows: fc.integer({ min: 1, max: 6 }), key: fc.constantFrom('a', 'b', undefined) }),
    {
      minLength: 1,
      maxLength: 20,
    },
  )
  .map((items) => {
    let nowMs = 0;
    return items.map(({ gapMs, rows, key }): Waiting => ({ sinceMs: (nowMs += gapMs), rows, key }));
  });

test('a run is of one shape, within its rows, in order, and nobody of its shape is overtaken', () => {
  fc.assert(
    fc.property(queues, fc.nat(50), (queue, laterMs) => {
      const decision = nextBatch(queue, policy, queue.at(-1)!.sinceMs + laterMs);
      if ('waitMs' in decision) return;
      const { run } = decision;
      const { key } = run[0]!;
      const alike = queue.filter((one) => one.key === key && key !== undefined);
      if (key !== undefined) expect(run).toEqual(alike.slice(0, run.length));
      if (run.length > 1) expect(run.reduce((sum, { rows }) => sum + rows, 0)).toBeLessThanOrEqual(policy.batchMax);
    }),
  );
});

test('nobody waits longer than the delay', () => {
  fc.assert(
    fc.property(queues, fc.nat(50), (queue, laterMs) => {
      const nowMs = queue.at(-1)!.sinceMs + laterMs;
      const decision = nextBatch(queue, policy, nowMs);
      const oldestMs = Math.max(...queue.map(({ sinceMs }) => nowMs - sinceMs));
      if ('waitMs' in decision) expect(oldestMs + decision.waitMs).toBeLessThanOrEqual(policy.batchDelayMs);
      else expect(decision.run.length).toBeGreaterThan(0);
    }),
  );
});

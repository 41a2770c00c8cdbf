import { expect, test } from 'vitest';
import { Backoff, sleep } from './backoff.ts';

test('the bound doubles from one second up to a minute', () => {
  const backoff = new Backoff({ random: () => 1, nowMs: () => 0 });
  const waits = Array.from({ length: 8 }, () => backoff.nextMs());
  expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
});

test('the wait is the drawn share of the bound', () => {
  const draws = [0, 0.5, 0.25];
  const backoff = new Backoff({ random: () => draws.shift() ?? 0, nowMs: () => 0 });
  expect([backoff.nextMs(), backoff.nextMs(), backoff.nextMs()]).toEqual([0, 1000, 1000]);
});

test('a link that held starts again from the base, one that flaps does not', () => {
  let nowMs = 0;
  const backoff = new Backoff({ random: () => 1, nowMs: () => nowMs, healthyMs: 5000 });
  expect([backoff.nextMs(), backoff.nextMs()]).toEqual([1000, 2000]);
  backoff.connected();
  nowMs = 100;
  expect(backoff.nextMs()).toBe(4000);
  backoff.connected();
  nowMs = 5100;
  expect(backoff.nextMs()).toBe(1000);
});

test('sleep ends early when its signal aborts', async () => {
  const stop = new AbortController();
  const slept = sleep(60_000, stop.signal);
  stop.abort();
  await slept;
  await sleep(60_000, stop.signal);
});

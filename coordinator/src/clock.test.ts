import { expect, test } from 'vitest';
import { evenTime, type Clock } from './clock.ts';

test('time goes on evenly whatever is done to the date', () => {
  let [dateMs, sinceStartMs] = [1_800_000_000_000, 500];
  const clock: Clock = { nowMs: () => dateMs, monotonicMs: () => sinceStartMs, every: () => () => {} };
  const nowMs = evenTime(clock);
  expect(nowMs()).toBe(1_800_000_000_000);
  dateMs -= 3e11;
  sinceStartMs += 250.7;
  expect(nowMs()).toBe(1_800_000_000_250);
});

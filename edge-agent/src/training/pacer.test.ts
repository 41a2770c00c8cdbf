import { expect, test } from 'vitest';
import { pacer } from './pacer.ts';

/** Rests over 100 steps of so many milliseconds each. */
async function rests(busy: number, stepMs: number): Promise<{ rests: number[]; passedMs: number }> {
  let nowMs = 0;
  const taken: number[] = [];
  const rest = pacer(busy, {
    now: () => nowMs,
    sleep: (ms) => {
      taken.push(ms);
      nowMs += ms;
      return Promise.resolve();
    },
  });
  for (let step = 0; step < 100; step++) {
    nowMs += stepMs;
    await rest();
  }
  return { rests: taken, passedMs: nowMs };
}

test('a training that may be busy a quarter of the time rests three times as long as it steps', async () => {
  expect(await rests(0.25, 4)).toEqual({ rests: Array<number>(100).fill(12), passedMs: 1600 });
});

test('short rests are saved up, and all of the time needs none', async () => {
  expect(await rests(0.5, 1)).toEqual({ rests: Array<number>(20).fill(5), passedMs: 200 });
  expect(await rests(1, 4)).toEqual({ rests: [], passedMs: 400 });
});

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isChosen, placeOf } from './rollout.ts';
import { sha256 } from './sha256.ts';

const nobody = { clientId: 'c', labels: {} };

test('places are even over clients, and another deal for each seed and model', async () => {
  const places = await Promise.all(Array.from({ length: 4000 }, (_, i) => placeOf('m', 's', `client ${i}`, sha256)));
  // 40 expected in each percent: a chi-square of 99 degrees of freedom is below 160 but once in 10,000.
  const counts = Array.from({ length: 100 }, (_, i) => places.filter((place) => Math.floor(place) === i).length);
  expect(counts.reduce((sum, count) => sum + (count - 40) ** 2 / 40, 0)).toBeLessThan(160);
  const others = await Promise.all([placeOf('m', 't', 'client 0', sha256), placeOf('n', 's', 'client 0', sha256)]);
  expect(new Set([places[0], ...others]).size).toBe(3);
});

test('the place of a client is what channel.proto says', async () => {
  // printf 'commonweight.v1.Rollout\nseed\nm\nclient' | sha256sum
  const digest = sha256(new TextEncoder().encode('commonweight.v1.Rollout\nseed\nm\nclient'));
  const first = Buffer.from(digest).readUIntBE(0, 6);
  expect(await placeOf('m', 'seed', 'client', sha256)).toBe((100 * first) / 2 ** 48);
});

test('who is chosen at a percentage is chosen at each higher one; 0 is nobody and 100 is all', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.string(),
      fc.double({ min: 0, max: 100, noNaN: true }),
      fc.double({ min: 0, max: 100, noNaN: true }),
      async (clientId, a, b) => {
        const at = (percent: number): Promise<boolean> =>
          isChosen('m', { percent, seed: 's', cohorts: [] }, { clientId, labels: {} }, sha256);
        const [low, high] = [Math.min(a, b), Math.max(a, b)];
        expect(!(await at(low)) || (await at(high))).toBe(true);
        expect([await at(0), await at(100)]).toEqual([false, true]);
      },
    ),
  );
});

test('a cohort is any of its labels, and the percentage is of the cohort', async () => {
  const cohorts = [
    { key: 'region', value: 'eu' },
    { key: 'tester', value: 'yes' },
  ];
  const isIn = (labels: Record<string, string>, percent = 100): Promise<boolean> =>
    isChosen('m', { percent, seed: 's', cohorts }, { ...nobody, labels }, sha256);
  expect(await Promise.all([isIn({ region: 'eu' }), isIn({ tester: 'yes', region: 'us' })])).toEqual([true, true]);
  expect(await Promise.all([isIn({}), isIn({ region: 'us' }), isIn({ eu: 'region' })])).toEqual([false, false, false]);
  expect(await isIn({ region: 'eu' }, 0)).toBe(false);
});

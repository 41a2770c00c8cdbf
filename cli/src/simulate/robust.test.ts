import { logistic } from '@commonweight/core';
import { loadDataset, subset, type Dataset } from '@commonweight/edge-agent';
import { beforeAll, expect, test } from 'vitest';
import { taskConfig } from '../task/task-flags.ts';
import type { AttackName } from './attacks.ts';
import { runSimulation } from './run-simulation.ts';
import type { Settings } from './settings.ts';

let train: Dataset;
let held: Dataset;
beforeAll(async () => {
  train = subset(
    await loadDataset('mnist'),
    Array.from({ length: 3000 }, (_, i) => i),
  );
  held = await loadDataset('mnist?split=test');
});

/** Accuracy after some rounds of 15 clients, three of which attack where an attack is named. */
async function accuracy(strategy: Record<string, number | string>, attack?: AttackName, rounds = 6): Promise<number> {
  const { name, ...options } = strategy;
  const settings: Settings = {
    data: 'mnist',
    test: 'mnist?split=test',
    model: 'logistic',
    clients: 15,
    fraction: 1,
    split: { by: 'iid' },
    rounds,
    seed: 3,
    evaluateEvery: rounds,
    task: taskConfig({
      model: 'model',
      strategy: String(name),
      strategyOption: options as Record<string, number>,
      learningRate: 0.1,
      epochs: 2,
    }),
    ...(attack === undefined ? {} : { attack: { name: attack, share: 0.2 } }),
  };
  const model = logistic({ inputs: 784, outputs: 10, seed: 1 });
  const { results } = await runSimulation({ settings, model, train, test: held, threads: 2 });
  return results.finalAccuracy!;
}

test('fedAvg is ruined by a fifth of attackers', async () => {
  expect(await accuracy({ name: 'fedAvg' })).toBeGreaterThan(0.85);
  expect(await accuracy({ name: 'fedAvg' }, 'sign-flip')).toBeLessThan(0.5);
  expect(await accuracy({ name: 'fedAvg' }, 'ipm')).toBeLessThan(0.5);
});

test.each([
  { name: 'median' },
  { name: 'trimmedMean', trim: 0.2 },
  { name: 'krum', attackers: 3 },
  { name: 'multiKrum', attackers: 3 },
  { name: 'bulyan', attackers: 3 },
  { name: 'geometricMedian' },
  { name: 'centredClipping' },
  { name: 'normZeroing' },
  { name: 'flTrust' },
])('$name stays within two points of what it reaches without them', async (strategy) => {
  const clean = await accuracy(strategy);
  const attacked = await accuracy(strategy, 'sign-flip');
  expect(Math.abs(clean - attacked)).toBeLessThan(0.02);
});

test('normBound only holds attackers back: with twice the rounds it is where it would be without them', async () => {
  const strategy = { name: 'normBound' };
  expect(await accuracy(strategy, 'sign-flip', 12)).toBeGreaterThan((await accuracy(strategy)) - 0.02);
});

test('adaptiveClipping holds them back too, though its bound follows them up', async () => {
  expect(await accuracy({ name: 'adaptiveClipping' }, 'sign-flip')).toBeGreaterThan(0.8);
});

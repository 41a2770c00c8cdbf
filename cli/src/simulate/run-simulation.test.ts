import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { logistic } from '@commonweight/core';
import { loadDataset, subset, type Dataset } from '@commonweight/edge-agent';
import { beforeAll, describe, expect, test } from 'vitest';
import { UsageError } from '../output/failure.ts';
import { taskConfig, type TaskFlags } from '../task/task-flags.ts';
import { runSimulation, type SimulationInput } from './run-simulation.ts';
import type { Settings } from './settings.ts';

let train: Dataset;
let held: Dataset;
beforeAll(async () => {
  train = subset(
    await loadDataset('mnist'),
    Array.from({ length: 1200 }, (_, i) => i),
  );
  held = subset(
    await loadDataset('mnist?split=test'),
    Array.from({ length: 400 }, (_, i) => i),
  );
});

const folder = (): string => mkdtempSync(join(tmpdir(), 'commonweight-simulate-test-'));

function input(
  changes: Partial<Settings> = {},
  flags: TaskFlags = {},
  more: Partial<SimulationInput> = {},
): SimulationInput {
  const settings: Settings = {
    data: 'mnist',
    test: 'mnist?split=test',
    model: 'logistic',
    clients: 8,
    fraction: 0.5,
    split: { by: 'dirichlet', alpha: 0.5 },
    rounds: 3,
    seed: 1,
    evaluateEvery: 1,
    task: taskConfig({ model: 'model', learningRate: 0.05, ...flags }),
    ...changes,
  };
  const model = logistic({ inputs: 784, outputs: 10, seed: settings.seed });
  return { settings, model, train, test: held, threads: 2, ...more };
}

const timeless = <T extends { seconds: number }>(records: readonly T[]) =>
  records.map(({ seconds: _, ...rest }) => rest);

describe('a simulation', () => {
  test('learns, and tells of every round', async () => {
    const { results } = await runSimulation(input());
    expect(results.rounds.map(({ round }) => round)).toEqual([1, 2, 3]);
    expect(results.finalAccuracy).toBeGreaterThan(0.5);
    expect(results).toMatchObject({ strategy: 'fedAvg', parameters: 7850, complete: true });
    for (const { updates, refused, steps } of results.rounds) {
      expect([updates, refused]).toEqual([4, 0]);
      expect(steps).toBeGreaterThan(30);
    }
  });

  test('is the same bit for bit for the same settings, however many threads it has', async () => {
    const [one, two] = [await runSimulation(input({}, {}, { threads: 1 })), await runSimulation(input())];
    expect(two.weights).toEqual(one.weights);
    expect(timeless(two.results.rounds)).toEqual(timeless(one.results.rounds));
    const other = await runSimulation(input({ seed: 2 }));
    expect(other.weights).not.toEqual(one.weights);
  });

  test('counts what is sent and fetched, which fewer bits make less of', async () => {
    const bytes = async (flags: TaskFlags): Promise<[number, number]> => {
      const { rounds } = (await runSimulation(input({ fraction: 1, rounds: 4 }, flags))).results;
      expect(rounds[0]!.downloadBytes).toBe(8 * 4 * 7850);
      return [rounds.at(-1)!.payloadBytes, rounds.at(-1)!.downloadBytes];
    };
    const full = 8 * 4 * 7850;
    expect(await bytes({ encoding: 'float32', compression: 'none' })).toEqual([full, full]);
    const [up, down] = await bytes({ encoding: 'mxint4', topK: 0.2, downlink: 'mxint4' });
    expect(up / full).toBeLessThan(0.08);
    expect(down / full).toBeLessThan(0.08);
  });

  test.each([{ strategy: 'scaffold' }, { strategy: 'fedAdam', downlink: 'mxint8', encoding: 'mxint4', topK: 0.1 }])(
    'that is stopped in a round goes on from the last whole one, to the same end: %o',
    async (flags) => {
      const whole = await runSimulation(input({}, flags));
      const isRounded = 'downlink' in flags;
      const out = folder();
      const stop = new AbortController();
      const onClient = (round: number, done: number): void => {
        if (round === 2 && done === 2) stop.abort();
      };
      const cut = await runSimulation(input({}, flags, { out, signal: stop.signal, onClient }));
      expect(cut.results).toMatchObject({ complete: false, rounds: [{ round: 1 }] });
      const resumed = await runSimulation(input({}, flags, { out }));
      expect(resumed.weights).toEqual(whole.weights);
      expect(timeless(resumed.results.rounds)).toEqual(timeless(whole.results.rounds));
      expect(readdirSync(out).sort()).toEqual(
        [
          'clients',
          ...(isRounded ? ['memory-0.3.f32', 'memory-1.3.f32', 'remainder.3.f32'] : ['memory-0.3.f32']),
          'results.json',
          'rounds.csv',
          'settings.json',
          'state.json',
          'weights.3.f32',
        ].sort(),
      );
      expect(readFileSync(join(out, 'rounds.csv'), 'utf8').trim().split('\n')).toHaveLength(4);
      // A folder of other settings is not mixed with these; more rounds of the same go on.
      await expect(runSimulation(input({ seed: 5 }, flags, { out }))).rejects.toThrow(UsageError);
      const longer = await runSimulation(input({ rounds: 4 }, flags, { out }));
      expect(longer.results.rounds.map(({ round }) => round)).toEqual([1, 2, 3, 4]);
    },
  );

  test('whose data do not fit the model says so', async () => {
    const model = logistic({ inputs: 700, outputs: 10, seed: 1 });
    await expect(runSimulation({ ...input(), model })).rejects.toThrow(
      /an example has 784 values \(image\) and input 'input' \(float\[700\]\) takes 700/,
    );
  });
});

describe('every strategy learns', () => {
  test.each(['fedAvgM', 'fedNova', 'scaffold', 'fedDyn', 'qFedAvg', 'ditto', 'normZeroing', 'adaptiveClipping'])(
    '%s',
    async (strategy) => {
      const options = { fedAvgM: { serverMomentum: 0.5 }, qFedAvg: { q: 0.05 } }[strategy];
      const flags = { strategy, ...(options === undefined ? {} : { strategyOption: options }) };
      const { results } = await runSimulation(input({ fraction: 1 }, flags));
      expect(results.finalAccuracy).toBeGreaterThan(0.6);
      expect(results.personalAccuracy === null).toBe(strategy !== 'ditto');
    },
  );

  test('models of their own, and layers of their own, fit the clients better than the common one', async () => {
    const split = { by: 'shards', shards: 2 } as const;
    const common = await runSimulation(input({ fraction: 1, split }));
    const ditto = await runSimulation(input({ fraction: 1, split }, { strategy: 'ditto' }));
    expect(ditto.weights).toEqual(common.weights);
    expect(ditto.results.personalAccuracy).toBeGreaterThan(common.results.finalAccuracy! + 0.05);
    const task = taskConfig({ model: 'model' }, { plan: { localLayers: ['*bias'] } });
    const own = await runSimulation(input({ fraction: 1, split, task }));
    expect(own.results.personalAccuracy).toBeGreaterThan(0.5);
  });
});

/**
 * Figures of papers beside ours, on `commonweight simulate`'s engine. Of `--data DIR` the folder `mnist` holds MNIST's four IDX files and
 * `fedprox` the synthetic sets of FedProx, drawn with seed 0 by its authors' generator; without them what needs them is not run.
 * `--quick` runs what takes a minute or two.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { fedAvg2nn, logistic } from '@commonweight/core';
import { arrayDataset, loadDataset, type Dataset } from '@commonweight/edge-agent';
import type { AttackName } from '../../cli/src/simulate/attacks.ts';
import { roundsTo } from '../../cli/src/simulate/records.ts';
import { runSimulation, type SimulationInput } from '../../cli/src/simulate/run-simulation.ts';
import type { Settings } from '../../cli/src/simulate/settings.ts';
import { taskConfig, type TaskFlags } from '../../cli/src/task/task-flags.ts';

const FEDAVG = 'McMahan et al. 2017, table 1';
const FEDPROX = "a reference run of FedProx's code on the same files";

export const published = {
  rounds_to_97_2nn_iid: { value: 87, source: FEDAVG },
  rounds_to_97_2nn_shards: { value: 664, source: FEDAVG },
  rounds_to_99_cnn_iid: { value: 20, source: 'McMahan et al. 2017, table 2' },
  fedprox_synthetic_0_0_fedavg: { value: 0.719, source: FEDPROX },
  fedprox_synthetic_0_0_mu_1: { value: 0.803, source: FEDPROX },
  fedprox_synthetic_iid_fedavg: { value: 0.937, source: FEDPROX },
  fedprox_synthetic_iid_mu_1: { value: 0.716, source: FEDPROX },
  niid_bench_fmnist_fedavg: { value: 0.8809, source: "NIID-Bench in Flower's baselines" },
  s_lr_mnist_1000_clients: { value: 200, source: 'FLUTE README on its CPU; local epochs not said' },
} as const;

type Figure = keyof typeof published;

export async function run({
  quick,
  data,
}: {
  quick: boolean;
  data: string | undefined;
}): Promise<Record<string, number | null>> {
  const figures: Record<string, number | null> = Object.fromEntries(Object.keys(published).map((key) => [key, null]));
  const set = (key: Figure, value: number | null): void => void (figures[key] = value);
  const mnist = folderIn(data, 'mnist');
  if (mnist !== undefined) {
    const [train, test] = [await loadDataset(`idx:${mnist}`), await loadDataset(`idx:${mnist}?split=test`)];
    set('rounds_to_97_2nn_iid', await twoLayers(train, test, { by: 'iid' }, 120));
    set('s_lr_mnist_1000_clients', await thousandClients(train, test));
    if (!quick) set('rounds_to_97_2nn_shards', await twoLayers(train, test, { by: 'shards', shards: 2 }, 900));
  }
  const fedprox = quick ? undefined : folderIn(data, 'fedprox');
  if (fedprox !== undefined) {
    set('fedprox_synthetic_0_0_fedavg', await synthetic(fedprox, '0_0', 0));
    set('fedprox_synthetic_0_0_mu_1', await synthetic(fedprox, '0_0', 1));
    set('fedprox_synthetic_iid_fedavg', await synthetic(fedprox, 'iid', 0));
    set('fedprox_synthetic_iid_mu_1', await synthetic(fedprox, 'iid', 1));
  }
  return { ...figures, ...(await underAttack(quick)) };
}

const folderIn = (data: string | undefined, name: string): string | undefined =>
  data !== undefined && existsSync(join(data, name)) ? join(data, name) : undefined;

function settings(changes: Partial<Settings>, flags: TaskFlags): Settings {
  return {
    data: 'given',
    test: 'given',
    model: 'given',
    clients: 100,
    fraction: 0.1,
    split: { by: 'iid' },
    rounds: 1,
    seed: 1,
    evaluateEvery: 1,
    task: taskConfig({ model: 'model', encoding: 'float32', ...flags }),
    ...changes,
  };
}

/** A line that tells that something goes on; standard output is for the figures. */
function progress(title: string): Pick<SimulationInput, 'onRound'> {
  return {
    onRound: ({ round, accuracy }, rounds) => {
      if (round % 20 !== 0 && round !== rounds) return;
      const right = accuracy === null ? '' : `, ${(100 * accuracy).toFixed(2)} % right`;
      process.stderr.write(`${title}: round ${round}/${rounds}${right}\n`);
    },
  };
}

/** The paper's 100 clients of 600 examples, a tenth of them in a round, E = 1, B = 10; ends once the target is reached. */
async function twoLayers(
  train: Dataset,
  test: Dataset,
  split: Settings['split'],
  rounds: number,
): Promise<number | null> {
  const reached = new AbortController();
  const told = progress(`2NN ${split.by}`);
  const input = {
    settings: settings({ split, rounds }, { learningRate: split.by === 'iid' ? 0.1 : 0.05 }),
    model: fedAvg2nn(1),
    train,
    test,
    signal: reached.signal,
    onRound: (record, all) => {
      told.onRound?.(record, all);
      if ((record.accuracy ?? 0) >= 0.97) reached.abort();
    },
  } satisfies SimulationInput;
  return roundsTo(0.97, (await runSimulation(input)).results.rounds);
}

/** Logistic regression, 100 rounds of 10 of 1,000 clients, two shards of one label each; seconds. */
async function thousandClients(train: Dataset, test: Dataset): Promise<number> {
  const startMs = performance.now();
  await runSimulation({
    settings: settings(
      { clients: 1000, fraction: 0.01, split: { by: 'shards', shards: 2 }, rounds: 100, evaluateEvery: 100 },
      { learningRate: 0.03 },
    ),
    model: logistic({ inputs: 784, outputs: 10, seed: 1 }),
    train,
    test,
  });
  return (performance.now() - startMs) / 1000;
}

interface SyntheticUser {
  x: number[][];
  y: number[];
}

/** FedProx's synthetic users without stragglers: the mean accuracy of the last ten of 200 rounds of 10 users, E = 20, B = 10. */
async function synthetic(folder: string, name: string, mu: number): Promise<number> {
  const text = gunzipSync(readFileSync(join(folder, `synthetic_${name}_seed0.json.gz`))).toString();
  const users = JSON.parse(text) as { train: SyntheticUser[]; test: SyntheticUser[] };
  let next = 0;
  const parts = users.train.map(({ y }) => Int32Array.from(y, () => next++));
  const { results } = await runSimulation({
    settings: settings(
      { clients: parts.length, fraction: 10 / parts.length, rounds: 200 },
      { strategy: mu === 0 ? 'fedAvg' : 'fedProx', ...(mu === 0 ? {} : { mu }), learningRate: 0.01, epochs: 20 },
    ),
    model: logistic({ inputs: 60, outputs: 10, seed: 1 }),
    train: together(users.train),
    test: together(users.test),
    parts,
    ...progress(`synthetic ${name}, mu ${mu}`),
  });
  const last = results.rounds.slice(-10).map(({ accuracy }) => accuracy ?? 0);
  return last.reduce((sum, accuracy) => sum + accuracy, 0) / last.length;
}

function together(users: readonly SyntheticUser[]): Dataset {
  const rows = users.flatMap(({ x }) => x);
  const labels = Int32Array.from(users.flatMap(({ y }) => y));
  return arrayDataset('synthetic', { values: Float32Array.from(rows.flat()), shape: [60], labels });
}

/** Ours, with nothing published for the same setting: 20 clients of which 4 attack, on the digits that come along. */
async function underAttack(quick: boolean): Promise<Record<string, number>> {
  const [train, test] = [await loadDataset('mnist'), await loadDataset('mnist?split=test')];
  const rounds = quick ? 5 : 20;
  const attacks: readonly AttackName[] = quick ? ['sign-flip'] : ['sign-flip', 'alie', 'ipm', 'random', 'label-flip'];
  const accuracy = async (name: string, attack?: AttackName): Promise<number> => {
    const takesAttackers = ['krum', 'multiKrum', 'bulyan'].includes(name);
    const { results } = await runSimulation({
      settings: settings(
        {
          clients: 20,
          fraction: 1,
          rounds,
          evaluateEvery: rounds,
          ...(attack === undefined ? {} : { attack: { name: attack, share: 0.2 } }),
        },
        { strategy: name, ...(takesAttackers ? { strategyOption: { attackers: 4 } } : {}) },
      ),
      model: fedAvg2nn(1),
      train,
      test,
    });
    process.stderr.write(`${name} under ${attack ?? 'no attack'}: ${results.finalAccuracy}\n`);
    return results.finalAccuracy ?? 0;
  };
  const figures: Record<string, number> = {};
  for (const name of [
    'fedAvg',
    'median',
    'trimmedMean',
    'multiKrum',
    'bulyan',
    'geometricMedian',
    'centredClipping',
    'normZeroing',
  ]) {
    figures[`accuracy_${name}`] = await accuracy(name);
    for (const attack of attacks) figures[`accuracy_${name}_${attack}`] = await accuracy(name, attack);
  }
  return figures;
}

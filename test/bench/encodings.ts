/**
 * Accuracy against bytes, on `commonweight simulate`'s engine: 50 clients with two classes each, ten of them in a round, the 2NN on the digits
 * that come along, the mean of the last five measurements over three seeds. Bytes are shares of what float32 takes: of updates as they were
 * sent, and of weights as clients fetched them, each from the version that it had. With `--data DIR`, whose folder `mnist` holds MNIST's four IDX
 * files, the same again on all of MNIST for what matters most. `--quick` runs one seed and thirty rounds.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fedAvg2nn } from '@commonweight/core';
import { loadDataset, type Dataset } from '@commonweight/edge-agent';
import { runSimulation } from '../../cli/src/simulate/run-simulation.ts';
import { taskConfig, type TaskFlags } from '../../cli/src/task/task-flags.ts';

/** What is compared, by the name that its figures have. */
const VARIANTS: Readonly<Record<string, TaskFlags>> = {
  float32: { encoding: 'float32', compression: 'none' },
  mxint8_plain: { encoding: 'mxint8', compression: 'none' },
  mxint8: { encoding: 'mxint8' },
  mxint4_plain: { encoding: 'mxint4', compression: 'none' },
  mxint4: { encoding: 'mxint4' },
  mxint4_rotated: { encoding: 'mxint4', rotate: true },
  mxint8_top10: { encoding: 'mxint8', topK: 0.1 },
  mxint4_top40: { encoding: 'mxint4', topK: 0.4 },
  mxint4_top10: { encoding: 'mxint4', topK: 0.1 },
  mxint4_top1: { encoding: 'mxint4', topK: 0.01 },
  mxint8_both: { encoding: 'mxint8', downlink: 'mxint8' },
  mxint4_both: { encoding: 'mxint4', downlink: 'mxint4' },
  mxint4_top10_both: { encoding: 'mxint4', topK: 0.1, downlink: 'mxint4' },
};
/** Also with all of MNIST, which takes longer. */
const ON_MNIST = ['float32', 'mxint4', 'mxint4_both', 'mxint4_top10_both'];

const CLIENTS = 50;
const FRACTION = 0.2;
const LAST = 5;

interface Measured {
  accuracy: number;
  up: number;
  down: number;
}

export async function run({
  quick,
  data,
}: {
  quick: boolean;
  data: string | undefined;
}): Promise<Record<string, number | null>> {
  const digits = { train: await loadDataset('mnist'), test: await loadDataset('mnist?split=test') };
  const figures = await compare(
    digits,
    quick ? ['float32', 'mxint4', 'mxint4_both'] : Object.keys(VARIANTS),
    quick,
    '',
  );
  const folder = data === undefined ? undefined : join(data, 'mnist');
  if (folder === undefined || !existsSync(folder)) return figures;
  const all = { train: await loadDataset(`idx:${folder}`), test: await loadDataset(`idx:${folder}?split=test`) };
  return { ...figures, ...(await compare(all, ON_MNIST, quick, '_mnist')) };
}

interface Digits {
  train: Dataset;
  test: Dataset;
}

async function compare(
  digits: Digits,
  variants: readonly string[],
  quick: boolean,
  suffix: string,
): Promise<Record<string, number>> {
  const seeds = quick ? [1] : [1, 2, 3];
  const rounds = quick ? 30 : 100;
  const figures: Record<string, number> = {};
  let baseline: Measured | undefined;
  for (const variant of variants) {
    const measured: Measured[] = [];
    for (const seed of seeds) measured.push(await measure(digits, VARIANTS[variant] ?? {}, seed, rounds));
    const { accuracy, up, down } = meanOf(measured);
    baseline ??= { accuracy, up, down };
    figures[`accuracy_${variant}${suffix}`] = 100 * accuracy;
    figures[`drop_points_${variant}${suffix}`] = 100 * (baseline.accuracy - accuracy);
    figures[`up_ratio_${variant}${suffix}`] = up / baseline.up;
    figures[`down_ratio_${variant}${suffix}`] = down / baseline.down;
    const shown = [100 * accuracy, 100 * (up / baseline.up), 100 * (down / baseline.down)].map((value) =>
      value.toFixed(2),
    );
    process.stderr.write(`${variant}${suffix}: ${shown[0]} % right, ${shown[1]} % up, ${shown[2]} % down\n`);
  }
  return figures;
}

async function measure(digits: Digits, flags: TaskFlags, seed: number, rounds: number): Promise<Measured> {
  const { results } = await runSimulation({
    settings: {
      data: 'given',
      test: 'given',
      model: 'given',
      clients: CLIENTS,
      fraction: FRACTION,
      split: { by: 'shards', shards: 2 },
      rounds,
      seed,
      evaluateEvery: 1,
      task: taskConfig({ model: 'model', epochs: 2, batch: 20, learningRate: 0.1, ...flags }),
    },
    model: fedAvg2nn(seed),
    ...digits,
  });
  const last = results.rounds.slice(-LAST).map(({ accuracy }) => accuracy ?? Number.NaN);
  return {
    accuracy: last.reduce((sum, accuracy) => sum + accuracy, 0) / last.length,
    up: results.rounds.reduce((sum, { payloadBytes }) => sum + payloadBytes, 0),
    down: results.rounds.reduce((sum, { downloadBytes }) => sum + downloadBytes, 0),
  };
}

function meanOf(measured: readonly Measured[]): Measured {
  const mean = (of: (one: Measured) => number): number =>
    measured.reduce((sum, one) => sum + of(one), 0) / measured.length;
  return { accuracy: mean(({ accuracy }) => accuracy), up: mean(({ up }) => up), down: mean(({ down }) => down) };
}

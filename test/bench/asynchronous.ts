import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from '@commonweight/client-sdk';
import { mlp, seeded, writeModel } from '@commonweight/core';
import { loadDataset } from '@commonweight/edge-agent';
import { examplesOf } from '../support/digit-models.ts';
import { adminOf } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import type { PacedFleet } from '../support/paced-agents.ts';
import { commonweight, listening, sourceProgram, temporaryFolder, type Program } from '../support/processes.ts';

const AGENTS = 20;
const SLOW = 4;
/** Of the others, how many are killed again and again. */
const MORTAL = 2;
/** How long a training takes on a device, and on a slow one. */
const DEVICE_MS = 400;
const SLOW_DEVICE_MS = 10 * DEVICE_MS;
const TARGET = 0.9;
const TEST_EXAMPLES = 1_000;
const RUN_MS_MAX = 90_000;
const QUICK_RUN_MS_MAX = 40_000;
/** Between two kills, on average. */
const KILL_MS = 4_000;

const TASK = {
  model: 'digits',
  plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.05 }, epochs: 1, batchSize: 10 },
  collectMs: 30_000,
  rounds: 0,
  seed: 1,
};
const MODES = {
  // Whoever is away for 5 s is not waited for.
  synchronous: { strategy: { name: 'fedAvg' }, cohort: { min: AGENTS - MORTAL - SLOW, max: AGENTS } },
  asynchronous: { strategy: { name: 'fedBuff', bufferSize: 5, stalenessMax: 50 }, cohort: { min: 1, max: AGENTS } },
} as const;

/**
 * Twenty agents over gRPC on digits that are dealt out unevenly, four of them ten times as slow and two killed at random: seconds until an
 * app's model is right on nine of ten digits that no agent has, with rounds that wait for everybody and without rounds.
 */
export async function run({ quick }: { quick: boolean }): Promise<Record<string, number | null>> {
  const limitMs = quick ? QUICK_RUN_MS_MAX : RUN_MS_MAX;
  const synchronous = await played('synchronous', limitMs);
  const asynchronous = await played('asynchronous', limitMs);
  const [slow, fast] = [synchronous.targetS, asynchronous.targetS];
  return {
    agents: AGENTS,
    target_accuracy: TARGET,
    synchronous_s: slow ?? null,
    asynchronous_s: fast ?? null,
    ratio_time: slow === undefined || fast === undefined ? null : fast / slow,
    synchronous_versions: synchronous.versions,
    asynchronous_versions: asynchronous.versions,
    synchronous_accuracy: synchronous.accuracy,
    asynchronous_accuracy: asynchronous.accuracy,
    kills: synchronous.kills + asynchronous.kills,
    failed_predictions: synchronous.failed + asynchronous.failed,
  };
}

interface Played {
  /** Undefined where it was not reached in time. */
  targetS: number | undefined;
  versions: number;
  /** Of the newest version that was looked at. */
  accuracy: number;
  kills: number;
  failed: number;
}

async function played(mode: keyof typeof MODES, limitMs: number): Promise<Played> {
  const folder = temporaryFolder(`bench-${mode}`);
  const [grpcPort, httpPort] = [await freePort(), await freePort()];
  const url = `grpc://127.0.0.1:${grpcPort}`;
  const programs: Program[] = [];
  let timer: NodeJS.Timeout | undefined;
  try {
    const at = ['--grpc', `127.0.0.1:${grpcPort}`, '--http', `127.0.0.1:${httpPort}`];
    const coordinator = commonweight('coordinator', '--data', join(folder, 'coordinator'), ...at);
    programs.push(coordinator);
    await listening(grpcPort, coordinator);
    const admin = adminOf(grpcPort);
    await admin.importModel(TASK.model, writeModel(mlp({ inputs: 784, hidden: [64], outputs: 10, seed: 1 })));
    await admin.createTask('train', { ...TASK, ...MODES[mode] });
    const places = Array.from({ length: AGENTS }, (_, i) => ({
      id: `${mode}-${i}`,
      data: `mnist?partition=${i}/${AGENTS}&alpha=0.5`,
      deviceMs: i < SLOW ? SLOW_DEVICE_MS : DEVICE_MS,
    }));
    const fleetOf = (agents: PacedFleet['agents']): Program =>
      sourceProgram('test/support/paced-agents.ts', JSON.stringify({ url, folder, agents } satisfies PacedFleet));
    programs.push(fleetOf(places.slice(0, AGENTS - MORTAL)));
    const mortals = places.slice(AGENTS - MORTAL).map((place) => ({ place, program: fleetOf([place]) }));
    await online(admin);
    await admin.startTask('train');
    let kills = 0;
    const random = seeded(`kills of ${mode}`);
    const killSoon = (): void => {
      timer = setTimeout(
        async () => {
          const one = mortals[random.integer(MORTAL)]!;
          kills += 1;
          await one.program.end('SIGKILL');
          one.program = fleetOf([one.place]);
          killSoon();
        },
        -Math.log(1 - random.uniform()) * KILL_MS,
      );
    };
    killSoon();
    const seen = await watched(url, limitMs);
    clearTimeout(timer);
    for (const { program } of mortals) await program.end('SIGKILL');
    admin.close();
    return { ...seen, kills };
  } finally {
    clearTimeout(timer);
    for (const one of programs.reverse()) await one.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

async function online(admin: ReturnType<typeof adminOf>): Promise<void> {
  for (const endMs = Date.now() + 60_000; (await admin.task('train')).agentsOnline < AGENTS;) {
    if (Date.now() > endMs) throw new Error('not all agents came within 60 s');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Tries each new version that an app has on digits that no agent trains on, until it is right often enough. */
async function watched(url: string, limitMs: number): Promise<Omit<Played, 'kills'>> {
  const test = examplesOf(await loadDataset('mnist?split=test'), 0, TEST_EXAMPLES);
  const client = await connect(url);
  try {
    const model = await client.model(TASK.model);
    const beganMs = performance.now();
    let [accuracy, failed, last] = [0, 0, 0];
    while (performance.now() - beganMs < limitMs) {
      if (model.version === last) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        continue;
      }
      try {
        const { outputs, version } = await model.predict({ input: test.inputs });
        const atS = (performance.now() - beganMs) / 1000;
        last = version;
        accuracy = accuracyOf(Object.values(outputs)[0]!.data as Float32Array, test.labels);
        if (accuracy >= TARGET) return { targetS: atS, versions: version, accuracy, failed };
      } catch {
        failed += 1;
      }
    }
    return { targetS: undefined, versions: last, accuracy, failed };
  } finally {
    await client.close();
  }
}

function accuracyOf(logits: Float32Array, labels: ArrayLike<number>): number {
  let right = 0;
  for (let i = 0; i < TEST_EXAMPLES; i++) {
    const row = logits.subarray(10 * i, 10 * i + 10);
    if (row.indexOf(Math.max(...row)) === labels[i]) right += 1;
  }
  return right / TEST_EXAMPLES;
}

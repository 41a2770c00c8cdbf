import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type Client, type Model } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { logistic, mlp, writeModel, type ModelProto } from '@commonweight/core';
import { freePort } from '../support/free-port.ts';
import { listening, natsServer, temporaryFolder, until } from '../support/processes.ts';
import { publishNext } from '../support/publish-next.ts';
import { Publisher } from '../support/publisher.ts';

/** Apps that follow one model, a third of them over each link. */
const CLIENTS = 24;
const VERSIONS = 20;
const WARM_UP = 2;
/** 10,187 parameters. */
const MODEL = { inputs: 784, hidden: [12, 33], outputs: 10, seed: 1 };
/** Versions of the model whose outputs are its version, swapped while predictions run. */
const SWAPS = 40;
const CALLERS = 8;

/**
 * Apps and coordinator on loopback, in one process: from the call that commits a version to its serving in each app;
 * predictions that fail or mix versions while one is swapped in after the other; and how long after the coordinator is
 * back all apps serve the version that it commits then.
 */
export async function run(): Promise<Record<string, number | null>> {
  const folder = temporaryFolder('bench-sdk');
  const [grpc, http, natsPort] = [await freePort(), await freePort(), await freePort()];
  const nats = natsServer(natsPort);
  try {
    await listening(natsPort, nats);
    const start = (): Promise<RunningCoordinator> =>
      startCoordinator({
        dataDir: join(folder, 'coordinator'),
        grpc: `127.0.0.1:${grpc}`,
        http: `127.0.0.1:${http}`,
        nats: `nats://127.0.0.1:${natsPort}`,
      });
    const urls = [`grpc://127.0.0.1:${grpc}`, `nats://127.0.0.1:${natsPort}`, `http://127.0.0.1:${http}`];
    const followed = await follow(start, urls);
    return { ...followed, ...(await swapUnderLoad(await portsWith(natsPort))) };
  } finally {
    await nats.end('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  }
}

const portsWith = async (nats: number): Promise<{ grpc: number; http: number; nats: number }> => ({
  grpc: await freePort(),
  http: await freePort(),
  nats,
});

async function follow(
  start: () => Promise<RunningCoordinator>,
  urls: readonly string[],
): Promise<Record<string, number>> {
  let coordinator = await start();
  const clients: Client[] = [];
  try {
    await coordinator.service.importModel('bench', writeModel(mlp(MODEL)));
    for (let i = 0; i < CLIENTS; i += 1)
      clients.push(await connect(urls[i % urls.length] ?? '', { probation: { probationMs: 0 } }));
    const models = await Promise.all(clients.map((client) => client.model('bench')));
    const times: number[] = [];
    for (let version = 2; version <= VERSIONS + WARM_UP + 1; version += 1) {
      const committed = Promise.withResolvers<number>();
      const stop = coordinator.service.watchReleases(() => committed.resolve(performance.now()));
      const active = models.map((model) => activeAt(model, version));
      await publishNext(coordinator.service, 'bench', 0.001);
      const committedAt = await committed.promise;
      const served = await Promise.all(active);
      stop();
      if (version > WARM_UP + 1) times.push(...served.map((at) => at - committedAt));
    }
    await coordinator.close();
    const missed = VERSIONS + WARM_UP + 2;
    coordinator = await start();
    const backAt = performance.now();
    const active = models.map((model) => activeAt(model, missed));
    await publishNext(coordinator.service, 'bench', 0.001);
    const recovered = Math.max(...(await Promise.all(active))) - backAt;
    return {
      clients: CLIENTS,
      commit_to_active_p50_ms: percentile(times, 0.5),
      commit_to_active_p99_ms: percentile(times, 0.99),
      partition_recovery_s: recovered / 1000,
    };
  } finally {
    await Promise.all(clients.map((client) => client.close()));
    await coordinator.close();
  }
}

const activeAt = (model: Model, version: number): Promise<number> =>
  new Promise((resolve) => {
    const off = model.on('version', ({ to }) => {
      if (to < version) return;
      resolve(performance.now());
      queueMicrotask(() => off());
    });
  });

/** One app whose callers never pause, while versions follow each other; the outputs of a version are its number. */
async function swapUnderLoad(ports: {
  grpc: number;
  http: number;
  nats: number;
}): Promise<Record<string, number | null>> {
  const publisher = await Publisher.open(ports);
  const client = await connect(`grpc://127.0.0.1:${ports.grpc}`);
  try {
    const numbered: ModelProto = logistic({ inputs: 4, outputs: 3, seed: 1 });
    const publish = (version: number): void =>
      void publisher.publish(version, numbered, {
        change: (weights) => {
          weights.fill(0);
          weights.fill(version, weights.length - 3);
        },
      });
    publish(1);
    const model = await client.model('m');
    const [calm, swapping]: [number[], number[]] = [[], []];
    let [done, isSwapping, predictions, failed, wrong] = [false, false, 0, 0, 0];
    const callers = Array.from({ length: CALLERS }, async () => {
      while (!done) {
        const startMs = performance.now();
        try {
          const { outputs, version } = await model.predict({ input: new Float32Array(4) });
          if (outputs['logits']?.data.some((value) => Number(value) !== version) !== false) wrong += 1;
        } catch {
          // Counted: it is the figure.
          failed += 1;
        }
        predictions += 1;
        (isSwapping ? swapping : calm).push(performance.now() - startMs);
      }
    });
    await until('calm predictions', 20_000, () => calm.length >= 5000);
    const before = process.memoryUsage.rss();
    isSwapping = true;
    for (let version = 2; version <= SWAPS + 1; version += 1) {
      const active = activeAt(model, version);
      publish(version);
      await active;
    }
    isSwapping = false;
    const after = process.memoryUsage.rss();
    await until('100,000 predictions', 60_000, () => predictions >= 100_000);
    done = true;
    await Promise.all(callers);
    return {
      predictions,
      failed_predictions: failed,
      wrong_version: wrong,
      // What a swap adds to the wait of the slowest of a hundred predictions.
      swap_pause_p99_ms: Math.max(0, percentile(swapping, 0.99) - percentile(calm, 0.99)),
      rss_growth_mib: (after - before) / 2 ** 20,
      // Deltas between releases are not built.
      delta_ratio: null,
    };
  } finally {
    await client.close();
    await publisher.close();
  }
}

function percentile(times: readonly number[], q: number): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}

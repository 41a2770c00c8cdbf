import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { connect, type Client, type Model } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import {
  fedAvg2nn,
  logistic,
  mlp,
  parsePlan,
  splitModel,
  weightsFromBytes,
  writeModel,
  type ModelProto,
} from '@commonweight/core';
import {
  dealOut,
  labelsOf,
  loadDataset,
  LoadedGraphs,
  LocalTrainer,
  openEngine,
  subset,
} from '@commonweight/edge-agent';
import { ManifestSchema } from '@commonweight/proto';
import { quantile } from '../chaos/quantiles.ts';
import { freePort } from '../support/free-port.ts';
import { listening, natsServer, temporaryFolder, until } from '../support/processes.ts';
import { publishNext } from '../support/publish-next.ts';
import { Publisher } from '../support/publisher.ts';
import { followedByMany } from './sdk-fleet.ts';
import { overSlowLinks } from './sdk-links.ts';
import { killedAtRandom, liedTo } from './sdk-trust.ts';

/** Apps that wait for a coordinator that is away, a third of them over each link. */
const WAITING = 24;
/** For how long it is, and the NATS server with it: nothing answers, as behind a network that is cut. */
const AWAY_MS = 10 * 60_000;
const AWAY_QUICK_MS = 30_000;
/** 10,187 parameters. */
const MODEL = { inputs: 784, hidden: [12, 33], outputs: 10, seed: 1 };
/** Versions of the model whose outputs are its version, swapped while predictions run. */
const SWAPS = 100;
/** Of these, those after which memory is to grow no more. */
const SWAPS_TO_WARM_UP = 20;
const CALLERS = 8;

/**
 * On loopback: from the commit of a version to its serving in a thousand apps; predictions that fail or mix versions while one is swapped in
 * after the other; how long after the coordinator is back all apps serve the version that it commits then; how many bytes a version is to
 * who has the one before; how fast bytes go over a link with a long way; what apps take of a coordinator that lies; and whether they start
 * after SIGKILL.
 */
export async function run({ quick }: { quick: boolean }): Promise<Record<string, number | null>> {
  const natsPort = await freePort();
  const nats = natsServer(natsPort);
  try {
    await listening(natsPort, nats);
    return {
      ...(await followedByMany(quick)),
      ...(await recovered(quick ? AWAY_QUICK_MS : AWAY_MS)),
      ...(await swapUnderLoad(await portsWith(natsPort))),
      ...(await deltaRatios()),
      ...(await overSlowLinks(quick)),
      ...(await liedTo(await portsWith(natsPort), quick)),
      ...(await killedAtRandom(quick)),
    };
  } finally {
    await nats.end('SIGTERM');
  }
}

const portsWith = async (nats: number): Promise<{ grpc: number; http: number; nats: number }> => ({
  grpc: await freePort(),
  http: await freePort(),
  nats,
});

/** Until all apps serve what a coordinator commits that was away for so long that they have come to try seldom. */
async function recovered(awayMs: number): Promise<Record<string, number>> {
  const folder = temporaryFolder('bench-sdk');
  const [grpc, http, natsPort] = [await freePort(), await freePort(), await freePort()];
  const urls = [`grpc://127.0.0.1:${grpc}`, `nats://127.0.0.1:${natsPort}`, `http://127.0.0.1:${http}`];
  const start = async (): Promise<() => Promise<void>> => {
    const nats = natsServer(natsPort);
    await listening(natsPort, nats);
    const at = { grpc: `127.0.0.1:${grpc}`, http: `127.0.0.1:${http}`, nats: `nats://127.0.0.1:${natsPort}` };
    coordinator = await startCoordinator({ dataDir: join(folder, 'coordinator'), ...at });
    return async () => {
      await coordinator?.close();
      await nats.end('SIGKILL');
    };
  };
  let coordinator: RunningCoordinator | undefined;
  let stop = await start();
  const clients: Client[] = [];
  try {
    await coordinator!.service.importModel('bench', writeModel(mlp(MODEL)));
    for (let i = 0; i < WAITING; i += 1)
      clients.push(await connect(urls[i % urls.length] ?? '', { probation: { probationMs: 0 } }));
    const models = await Promise.all(clients.map((client) => client.model('bench')));
    await stop();
    await new Promise((resolve) => setTimeout(resolve, awayMs));
    stop = await start();
    const backAt = performance.now();
    const active = models.map((model) => activeAt(model, 2));
    await publishNext(coordinator!.service, 'bench', 0.001);
    const tookMs = (await Promise.all(active)).map((at) => at - backAt);
    return {
      partition_s: awayMs / 1000,
      partition_recovery_s: Math.max(...tookMs) / 1000,
      partition_recovery_p50_s: quantile(tookMs, 0.5) / 1000,
    };
  } finally {
    await Promise.all(clients.map((client) => client.close()));
    await stop();
    rmSync(folder, { recursive: true, force: true });
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
    await until('calm predictions', 120_000, () => calm.length >= 5000);
    let before = 0;
    isSwapping = true;
    for (let version = 2; version <= SWAPS + 1; version += 1) {
      if (version === SWAPS_TO_WARM_UP + 2) before = process.memoryUsage.rss();
      const active = activeAt(model, version);
      publish(version);
      await active;
    }
    isSwapping = false;
    const after = process.memoryUsage.rss();
    await until('100,000 predictions', 600_000, () => predictions >= 100_000);
    done = true;
    await Promise.all(callers);
    return {
      swaps: SWAPS,
      predictions,
      failed_predictions: failed,
      wrong_version: wrong,
      // What a swap adds to the wait of the slowest of a hundred predictions.
      swap_pause_p99_ms: Math.max(0, quantile(swapping, 0.99) - quantile(calm, 0.99)),
      rss_growth_mib: (after - before) / 2 ** 20,
    };
  } finally {
    await client.close();
    await publisher.close();
  }
}

/** Rounds of the 2NN on the digits that come along, of which the last is measured. */
const DELTA_ROUNDS = 4;
const DELTA_CLIENTS = 8;

/** Bytes that an app fetches from one version to the next against those of the weights, where training goes on. */
async function deltaRatios(): Promise<Record<string, number>> {
  const folder = temporaryFolder('bench-deltas');
  const coordinator = await startCoordinator({ dataDir: folder, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  const client = await connect(`grpc://127.0.0.1:${coordinator.grpcPort}`, { probation: { probationMs: 0 } });
  try {
    return {
      delta_ratio: await deltaRatio(coordinator, client, 'mxint8'),
      delta_ratio_mxint4: await deltaRatio(coordinator, client, 'mxint4'),
    };
  } finally {
    await client.close();
    await coordinator.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function deltaRatio(
  { service }: RunningCoordinator,
  client: Client,
  downlink: 'mxint8' | 'mxint4',
): Promise<number> {
  const name = `steps-${downlink}`;
  await service.importModel(name, writeModel(fedAvg2nn(1)));
  const model = await client.model(name);
  const federation = await Federation.open();
  let fetched = 0;
  model.on('progress', ({ bytesTotal }) => (fetched = bytesTotal));
  for (let version = 2; version <= DELTA_ROUNDS + 1; version++) {
    const delta = await federation.round(await federation.weightsOf(service, name));
    const active = activeAt(model, version);
    await publishNext(service, name, delta, { downlink });
    await active;
  }
  return fetched / (4 * 199_210);
}

/** The agents' own training, as many as take part in a round. */
class Federation {
  readonly #graph: Uint8Array;
  readonly #trainers: readonly LocalTrainer[];
  #rounds = 0;

  private constructor(graph: Uint8Array, trainers: readonly LocalTrainer[]) {
    this.#graph = graph;
    this.#trainers = trainers;
  }

  static async open(): Promise<Federation> {
    const data = await loadDataset('mnist');
    const parts = dealOut(labelsOf(data), data.examples, { by: 'shards', shards: 2, parts: DELTA_CLIENTS, seed: 1 });
    const graphs = new LoadedGraphs(await openEngine('ort-cpu', { threads: 1 }));
    const trainers = parts.map((part) => new LocalTrainer(subset(data, part), graphs));
    return new Federation(splitModel(fedAvg2nn(1)).graph, trainers);
  }

  async weightsOf(service: RunningCoordinator['service'], model: string): Promise<Float32Array> {
    const { artifacts } = fromBinary(ManifestSchema, (await service.getModel(model, 0)).manifest);
    const weights = artifacts.find(({ role }) => role === 'weights');
    const bytes = new Uint8Array(Number(weights?.size));
    for (let at = 0; at < bytes.length;) {
      const { data } = await service.readBlob(weights?.digest ?? new Uint8Array(), at, bytes.length - at);
      bytes.set(data, at);
      at += data.length;
    }
    return weightsFromBytes(bytes);
  }

  /** The mean of what the agents learn. */
  async round(base: Float32Array): Promise<Float32Array> {
    const plan = parsePlan({
      loss: 'cross-entropy',
      optimizer: { name: 'sgd', learningRate: 0.1 },
      epochs: 2,
      batchSize: 20,
    });
    this.#rounds += 1;
    const mean = new Float32Array(base.length);
    for (const [i, trainer] of this.#trainers.entries()) {
      const seed = BigInt(100 * this.#rounds + i);
      const { weights } = await trainer.train({ graph: this.#graph, weights: base, plan, seed });
      weights.forEach((weight, at) => (mean[at]! += (weight - base[at]!) / this.#trainers.length));
    }
    return mean;
  }
}

import { fromBinary } from '@bufbuild/protobuf';
import { openCoordinator } from '@commonweight/coordinator';
import { connect } from '@commonweight/client-sdk';
import { mlp, writeModel } from '@commonweight/core';
import { runAgent } from '@commonweight/edge-agent';
import { ContributionListSchema, ManifestSchema } from '@commonweight/proto';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { adminOf, type Admin } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import { commonweight, listening, natsServer, temporaryFolder, until, type Program } from '../support/processes.ts';

const AGENTS = 4;
const ROUNDS = 5;

const programs: Program[] = [];
const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  for (const program of programs.splice(0)) await program.end('SIGKILL');
});

const config = {
  model: 'digits',
  strategy: { name: 'fedAvg' },
  plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 },
  encoding: 'mxint8',
  cohort: { min: AGENTS, max: AGENTS },
  collectMs: 60_000,
  pauseMs: 0,
  rounds: ROUNDS,
  weightMax: 10_000,
  valueMaxExponent: 3,
  seed: 1,
};

test('a run over gRPC and NATS survives kill -9 of the coordinator, and counts every update once', async () => {
  const folder = temporaryFolder('federation');
  const [grpcPort, httpPort, natsPort] = [await freePort(), await freePort(), await freePort()];
  const nats = started(natsServer(natsPort));
  await listening(natsPort, nats);
  const startCoordinator = async (): Promise<Program> => {
    const ports = ['--grpc', `127.0.0.1:${grpcPort}`, '--http', `127.0.0.1:${httpPort}`];
    const program = started(
      commonweight(
        'coordinator',
        '--data',
        join(folder, 'coordinator'),
        ...ports,
        '--nats',
        `nats://127.0.0.1:${natsPort}`,
      ),
    );
    await listening(grpcPort, program);
    return program;
  };

  let coordinator = await startCoordinator();
  let admin = adminOf(grpcPort);
  await admin.importModel('digits', writeModel(mlp({ inputs: 784, hidden: [32], outputs: 10, seed: 1 })));
  await admin.createTask('train', config);

  const received = startAgents(folder, `grpc://127.0.0.1:${grpcPort}`, `nats://127.0.0.1:${natsPort}`);
  const app = await follow(`grpc://127.0.0.1:${grpcPort}`);
  await admin.startTask('train');

  await until('a round that is half collected', 60_000, () => isHalfCollected(admin), coordinator.output);
  await coordinator.end('SIGKILL');
  admin.close();
  coordinator = await startCoordinator();
  admin = adminOf(grpcPort);
  closers.push(() => admin.close());

  const finished = async (): Promise<boolean> => (await admin.task('train')).state === 'finished';
  await until('the task to finish', 120_000, finished, coordinator.output);
  const committed = ROUNDS * AGENTS;
  await until(
    `${committed} receipts`,
    30_000,
    () => received.size === committed,
    () => `${received.size} receipts`,
  );
  await until('the app to serve the last version', 30_000, () => app.version() === ROUNDS + 1);
  expect(app.failures()).toBe(0);
  await coordinator.end('SIGTERM');

  expect(await countsById(join(folder, 'coordinator'))).toEqual(new Map([...received].map((id) => [id, 1])));
}, 600_000);

function started(program: Program): Program {
  programs.push(program);
  return program;
}

async function isHalfCollected(admin: Admin): Promise<boolean> {
  const status = await admin.task('train');
  return status.round >= 2n && status.phase === 'Collecting' && status.accepted >= 1;
}

/** Starts the agents, half on each link; the set fills with the ids of updates whose receipt says committed. */
function startAgents(folder: string, grpc: string, nats: string): Set<string> {
  const received = new Set<string>();
  const stop = new AbortController();
  const agents = Array.from({ length: AGENTS }, (_, i) =>
    runAgent({
      coordinator: i % 2 === 0 ? grpc : nats,
      // The last one has all the images and takes its time, so that every round is half collected for long.
      data: i === AGENTS - 1 ? 'mnist' : `mnist?partition=${i}/${10 * AGENTS}&alpha=0.5&seed=1`,
      agentId: `agent-${i}`,
      dataDir: join(folder, `agent-${i}`),
      signal: stop.signal,
      onEvent: (event) => {
        if (event.type === 'receipt') received.add(event.updateId);
      },
    }),
  );
  closers.push(async () => {
    stop.abort();
    await Promise.all(agents);
  });
  return received;
}

/** An app that predicts all the time. */
async function follow(url: string): Promise<{ version: () => number | undefined; failures: () => number }> {
  const client = await connect(url);
  const model = await client.model('digits');
  let failures = 0;
  let going = true;
  const image = new Float32Array(784);
  const predicting = (async () => {
    while (going) {
      await model.predict({ input: image }).catch(() => failures++);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  closers.push(async () => {
    going = false;
    await predicting;
    await client.close();
  });
  return { version: () => model.version, failures: () => failures };
}

/** How often each update id stands in the contribution lists of all versions. */
async function countsById(dataDir: string): Promise<Map<string, number>> {
  const service = await openCoordinator({ dataDir });
  const counts = new Map<string, number>();
  for (const release of await service.listVersions('digits')) {
    const manifest = fromBinary(ManifestSchema, release.manifest);
    if (manifest.contributionsDigest.length === 0) continue;
    const { data } = await service.readBlob(manifest.contributionsDigest, 0, 1 << 20);
    for (const { updateId } of fromBinary(ContributionListSchema, data).accepted) {
      const id = Buffer.from(updateId).toString('hex');
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
  }
  await service.close();
  return counts;
}

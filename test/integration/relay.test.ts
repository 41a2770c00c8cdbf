import { fromBinary } from '@bufbuild/protobuf';
import { openCoordinator } from '@commonweight/coordinator';
import { mlp, writeModel } from '@commonweight/core';
import { runAgent } from '@commonweight/edge-agent';
import { ContributionListSchema, ManifestSchema } from '@commonweight/proto';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { adminOf, type Admin } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import { commonweight, listening, printed, temporaryFolder, until, type Program } from '../support/processes.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

const AGENTS = 4;
const ROUNDS = 6;
/** Of the link of the last agent, whose update takes some seconds on it: each round is half collected for so long. */
const SLOW_BYTES_PER_SECOND = 60_000;

const programs: Program[] = [];
const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  for (const program of programs.splice(0)) await program.end('SIGKILL');
});

/** Whoever comes to the relay, updates of this encoding are larger than the sum of two. */
const config = {
  model: 'digits',
  strategy: { name: 'fedAvg' },
  plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 },
  encoding: 'float32',
  cohort: { min: AGENTS, max: AGENTS },
  collectMs: 120_000,
  pauseMs: 0,
  rounds: ROUNDS,
  weightMax: 10_000,
  valueMaxExponent: 3,
  seed: 1,
};

interface Running {
  admin: Admin;
  port: number;
  dataDir: string;
  program: Program;
}

test('a task trains through a relay that is killed and whose uplink breaks, and comes to what it comes to without', async () => {
  const folder = temporaryFolder('relay');
  const coordinator = await startCoordinator(join(folder, 'coordinator'));
  const proxy = await TcpProxy.open(coordinator.port);
  closers.push(() => proxy.close());
  const [relayPort, httpPort] = [await freePort(), await freePort()];
  const startRelay = async (): Promise<Program> => {
    const at = ['--grpc', `127.0.0.1:${relayPort}`, '--http', `127.0.0.1:${httpPort}`];
    const to = ['--coordinator', `grpc://127.0.0.1:${proxy.port}`, '--dir', join(folder, 'relay')];
    // Longer than the slow link takes. One that was started again does not know who was invited, and waits so long.
    const program = started(commonweight('relay', ...at, ...to, '--wait', '10s', '--json'));
    await listening(relayPort, program);
    return program;
  };
  let relay = await startRelay();
  const slow = await TcpProxy.open(relayPort);
  slow.weather = { bytesPerSecond: SLOW_BYTES_PER_SECOND };
  closers.push(() => slow.close());
  const received = startAgents(join(folder, 'agents'), (i) => (i === AGENTS - 1 ? slow.port : relayPort));
  await coordinator.admin.startTask('train');
  const round = async (): Promise<bigint> => (await coordinator.admin.task('train')).round;
  const isHalfCollected = async (after: bigint): Promise<boolean> =>
    (await round()) >= after && (await figure(httpPort, 'kept')) >= 1;

  await until('a round that is half collected at the relay', 60_000, () => isHalfCollected(2n), relay.output);
  await relay.end('SIGKILL');
  relay = await startRelay();

  const later = (await round()) + 1n;
  await until('another one', 60_000, () => isHalfCollected(later), relay.output);
  proxy.refuses = true;
  proxy.reset();
  await until('all updates to be at the relay', 60_000, async () => (await figure(httpPort, 'kept')) === AGENTS);
  expect(await figure(httpPort, 'agents')).toBe(AGENTS);
  expect(await status(httpPort, '/readyz')).toBe(503);
  proxy.refuses = false;

  await until('the task to finish', 180_000, async () => (await stateOf(coordinator)) === 'finished', relay.output);
  const committed = ROUNDS * AGENTS;
  await until(
    `${committed} receipts`,
    30_000,
    () => received.size === committed,
    () => `${received.size} receipts`,
  );
  await relay.end('SIGTERM');
  const lines = printed<{ event: string } & Record<string, number>>(relay);
  // It says them once a minute, too.
  const last = lines.findLast(({ event }) => event === 'figures')!;
  expect(last).toMatchObject({ kept: 0 });
  expect(last['parts']).toBeGreaterThanOrEqual(1);
  await coordinator.program.end('SIGTERM');
  expect(await countsById(coordinator.dataDir)).toEqual(new Map([...received].map((id) => [id, 1])));

  const direct = await startCoordinator(join(folder, 'direct'));
  startAgents(join(folder, 'direct-agents'), () => direct.port);
  await direct.admin.startTask('train');
  await until('the task to finish without a relay', 180_000, async () => (await stateOf(direct)) === 'finished');
  await direct.program.end('SIGTERM');
  expect(await weightsIn(coordinator.dataDir)).toEqual(await weightsIn(direct.dataDir));
}, 900_000);

async function startCoordinator(dataDir: string): Promise<Running> {
  const [port, httpPort] = [await freePort(), await freePort()];
  const at = ['--grpc', `127.0.0.1:${port}`, '--http', `127.0.0.1:${httpPort}`];
  const program = started(commonweight('coordinator', '--data', dataDir, ...at));
  await listening(port, program);
  const admin = adminOf(port);
  closers.push(() => admin.close());
  await admin.importModel('digits', writeModel(mlp({ inputs: 784, hidden: [32], outputs: 10, seed: 1 })));
  await admin.createTask('train', config);
  return { admin, port, dataDir, program };
}

const stateOf = async ({ admin }: Running): Promise<string> => (await admin.task('train')).state;

function started(program: Program): Program {
  programs.push(program);
  return program;
}

/** The set fills with the ids of updates whose receipt says committed. */
function startAgents(folder: string, portOf: (agent: number) => number): Set<string> {
  const received = new Set<string>();
  const stop = new AbortController();
  const agents = Array.from({ length: AGENTS }, (_, i) =>
    runAgent({
      coordinator: `grpc://127.0.0.1:${portOf(i)}`,
      data: `mnist?partition=${i}/${10 * AGENTS}&alpha=0.5&seed=1`,
      agentId: `agent-${i}`,
      dataDir: join(folder, `agent-${i}`),
      engine: 'ort-cpu',
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

async function figure(httpPort: number, name: string): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${httpPort}/metrics`).catch(() => undefined);
  const line = (await answer?.text())?.split('\n').find((one) => one.startsWith(`commonweight_relay_${name} `));
  return Number(line?.split(' ')[1] ?? Number.NaN);
}

const status = async (httpPort: number, path: string): Promise<number> =>
  (await fetch(`http://127.0.0.1:${httpPort}${path}`)).status;

/** How often each update is listed, over all versions. */
async function countsById(dataDir: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  const store = await openCoordinator({ dataDir });
  for (const { manifest } of await store.listVersions('digits')) {
    const { contributionsDigest } = fromBinary(ManifestSchema, manifest);
    if (contributionsDigest.length === 0) continue;
    const { data } = await store.readBlob(contributionsDigest, 0, 2 ** 20);
    for (const { updateId } of fromBinary(ContributionListSchema, data).accepted) {
      const id = Buffer.from(updateId).toString('hex');
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
  }
  await store.close();
  return counts;
}

/** Digests of the weights of all versions. */
async function weightsIn(dataDir: string): Promise<string[]> {
  const store = await openCoordinator({ dataDir });
  const versions = await store.listVersions('digits');
  await store.close();
  return versions.map(({ manifest }) => {
    const { artifacts } = fromBinary(ManifestSchema, manifest);
    return Buffer.from(artifacts.find(({ role }) => role === 'weights')!.digest).toString('hex');
  });
}

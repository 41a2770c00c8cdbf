import { fromBinary } from '@bufbuild/protobuf';
import { mlp, writeModel } from '@commonweight/core';
import { runAgent } from '@commonweight/edge-agent';
import { ContributionListSchema, ManifestSchema } from '@commonweight/proto';
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { adminOf } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import { PostgresServer } from '../support/postgres.ts';
import { commonweight, listening, natsServer, temporaryFolder, until, type Program } from '../support/processes.ts';

let server: PostgresServer;
beforeAll(async () => {
  server = await PostgresServer.start();
});
afterAll(() => server.close());

const programs: Program[] = [];
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  for (const program of programs.splice(0)) await program.end('SIGKILL');
});

const AGENTS = 6;
const config = {
  model: 'digits',
  plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 },
  cohort: { min: AGENTS, max: AGENTS },
  pauseMs: 0,
  rounds: 0,
  weightMax: 10_000,
  seed: 1,
};

interface Replica extends Program {
  grpc: string;
  port: number;
  leads(): boolean;
}

/** Three coordinators on one database and one NATS server. */
class Cluster {
  readonly folder = temporaryFolder('shared-rounds');
  readonly database: string;
  readonly nats: string;
  readonly #ports: { grpc: number; http: number }[];

  constructor(database: string, nats: string, ports: { grpc: number; http: number }[]) {
    this.database = database;
    this.nats = nats;
    this.#ports = ports;
  }

  async start(i: number): Promise<Replica> {
    const { grpc, http } = this.#ports[i]!;
    const data = join(this.folder, String(i));
    mkdirSync(data, { recursive: true });
    const key = 'signing-key.pem';
    if (i > 0 && !existsSync(join(data, key))) copyFileSync(join(this.folder, '0', key), join(data, key));
    const addresses = ['--grpc', `127.0.0.1:${grpc}`, '--http', `127.0.0.1:${http}`, '--nats', this.nats];
    const program = commonweight('coordinator', '--data', data, ...addresses, '--postgres', server.url(this.database));
    programs.push(program);
    await listening(grpc, program);
    const leads = (): boolean => /^leading, epoch/m.test(program.output());
    return { ...program, grpc: `127.0.0.1:${grpc}`, port: grpc, leads };
  }

  get grpc(): string {
    return `grpc://${this.#ports.map(({ grpc }) => `127.0.0.1:${grpc}`).join(',')}`;
  }

  async versions(): Promise<number> {
    const [row] = await server.query(this.database, 'SELECT count(*) AS n FROM versions');
    return Number(row?.['n']);
  }

  /** Every update id of every contribution list, and the epochs, in the order of versions. */
  async history(): Promise<{ ids: string[]; epochs: number[] }> {
    const rows = await server.query(this.database, 'SELECT manifest FROM versions ORDER BY version');
    const manifests = rows.map(({ manifest }) => fromBinary(ManifestSchema, manifest as Uint8Array));
    const ids: string[] = [];
    for (const { contributionsDigest, version } of manifests) {
      if (version === 1n) continue;
      const digest = Buffer.from(contributionsDigest).toString('hex');
      const sql = `SELECT data FROM blob_chunks WHERE digest = '\\x${digest}' ORDER BY position`;
      const data = Buffer.concat((await server.query(this.database, sql)).map((row) => row['data'] as Buffer));
      const { accepted } = fromBinary(ContributionListSchema, data);
      ids.push(...accepted.map(({ updateId }) => Buffer.from(updateId).toString('hex')));
    }
    return { ids, epochs: manifests.map(({ epoch }) => Number(epoch)) };
  }
}

test('three replicas share the rounds; one is killed, the leader is killed, one is paused: every update counts once', async () => {
  const natsPort = await freePort();
  const nats = natsServer(natsPort);
  programs.push(nats);
  await listening(natsPort, nats);
  const ports = await Promise.all([0, 1, 2].map(async () => ({ grpc: await freePort(), http: await freePort() })));
  const cluster = new Cluster(await server.database(), `nats://127.0.0.1:${natsPort}`, ports);
  const leader = await cluster.start(0);
  await until('a leader', 30_000, leader.leads, leader.output);
  const [second, third] = [await cluster.start(1), await cluster.start(2)];

  const admin = adminOf(second.port);
  await admin.importModel('digits', writeModel(mlp({ inputs: 784, hidden: [32], outputs: 10, seed: 1 })));
  await admin.createTask('train', config);
  await admin.startTask('train');
  admin.close();

  const committed = new Set<string>();
  const stop = new AbortController();
  const agents = Array.from({ length: AGENTS }, (_, i) =>
    runAgent({
      coordinator: i % 2 === 0 ? cluster.grpc : cluster.nats,
      data: `mnist?partition=${i}/${10 * AGENTS}&alpha=0.5&seed=1`,
      agentId: `agent-${i}`,
      dataDir: join(cluster.folder, `agent-${i}`),
      signal: stop.signal,
      onEvent: (event) => {
        if (event.type === 'receipt') committed.add(event.updateId);
      },
    }),
  );
  closers.push(async () => {
    stop.abort();
    await Promise.all(agents);
  });

  const output = (): string => [leader, second, third].map((one) => one.output()).join('\n---\n');
  const further = async (versions: number): Promise<void> => {
    const before = await cluster.versions();
    await until(
      `${versions} more versions`,
      60_000,
      async () => (await cluster.versions()) >= before + versions,
      output,
    );
  };
  await further(4);
  // Each replica has had its part in some round.
  await until(
    'claims of every replica',
    60_000,
    async () => (await server.query(cluster.database, 'SELECT DISTINCT replica FROM claims')).length >= 2,
    output,
  );
  await third.end('SIGKILL');
  await further(3);
  const again = await cluster.start(2);
  await further(2);
  await leader.end('SIGKILL');
  await until('another leader', 30_000, () => second.leads() || again.leads(), output);
  await further(3);
  const follower = second.leads() ? again : second;
  follower.child.kill('SIGSTOP');
  await further(3);
  follower.child.kill('SIGCONT');
  await until('the paused one to end', 30_000, () => follower.child.exitCode !== null, follower.output);
  // It may have come to lead just before.
  expect(follower.output()).toMatch(/took this replica for dead|another coordinator leads/);
  await further(2);

  stop.abort();
  await Promise.all(agents);
  const { ids, epochs } = await cluster.history();
  expect(new Set(ids).size).toBe(ids.length);
  expect(epochs).toEqual(epochs.toSorted((a, b) => a - b));
  expect(new Set(epochs).size).toBeGreaterThanOrEqual(2);
  // What an agent was told is true.
  expect([...committed].filter((id) => !ids.includes(id))).toEqual([]);
}, 600_000);

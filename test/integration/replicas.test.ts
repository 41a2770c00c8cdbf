import { fromBinary } from '@bufbuild/protobuf';
import { ManifestSchema } from '@commonweight/proto';
import { mlp, writeModel } from '@commonweight/core';
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { adminOf } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import { PostgresServer } from '../support/postgres.ts';
import { commonweight, temporaryFolder, until, type Program } from '../support/processes.ts';

let server: PostgresServer;
beforeAll(async () => {
  server = await PostgresServer.start();
});
afterAll(() => server.close());

const programs: Program[] = [];
afterEach(async () => {
  for (const program of programs.splice(0)) await program.end('SIGKILL');
});

interface Replica extends Program {
  port: number;
  /** Whether it leads. */
  leads(): boolean;
}

const onnx = writeModel(mlp({ inputs: 4, hidden: [3], outputs: 2, seed: 1 }));

/** Coordinators on one database that sign with one key. */
class Replicas {
  readonly database: string;
  readonly #folder = temporaryFolder('replicas');
  #count = 0;
  #imports = 0;

  constructor(database: string) {
    this.database = database;
  }

  async start(): Promise<Replica> {
    const [port, http] = [await freePort(), await freePort()];
    const data = join(this.#folder, String((this.#count += 1)));
    mkdirSync(data);
    const key = 'signing-key.pem';
    if (this.#count > 1) copyFileSync(join(this.#folder, '1', key), join(data, key));
    const addresses = ['--grpc', `127.0.0.1:${port}`, '--http', `127.0.0.1:${http}`];
    const postgres = ['--postgres', server.url(this.database)];
    const program = commonweight('coordinator', '--data', data, ...addresses, ...postgres);
    const replica = { ...program, port, leads: () => /^leading, epoch/m.test(program.output()) };
    programs.push(replica);
    return replica;
  }

  async leading(): Promise<Replica> {
    const replica = await this.start();
    await until('a leader', 30_000, replica.leads, replica.output);
    await until('its ports', 30_000, () => /^coordinator {2}grpc/m.test(replica.output()), replica.output);
    return replica;
  }

  async following(): Promise<Replica> {
    const replica = await this.start();
    await until('a follower', 30_000, () => /^coordinator {2}grpc/m.test(replica.output()), replica.output);
    expect(replica.output()).toMatch(
      /another coordinator leads \(process \d+ on \S+, epoch \d+\); this one shares its work, and leads when it ends/,
    );
    expect(replica.leads()).toBe(false);
    return replica;
  }

  /** Commits one version after the other until a commit fails. */
  async commitUntilFailure(replica: Replica): Promise<void> {
    const admin = adminOf(replica.port);
    try {
      for (;;) await admin.importModel(`model-${(this.#imports += 1)}`, onnx);
    } catch {
      // Whether it was the process or its lease that ended is what the tests look at.
    } finally {
      admin.close();
    }
  }

  async import(replica: Replica): Promise<void> {
    const admin = adminOf(replica.port);
    await admin.importModel(`model-${(this.#imports += 1)}`, onnx);
    admin.close();
  }

  /** The epochs of all versions in the order in which they were committed. */
  async epochs(): Promise<number[]> {
    const rows = await server.query(this.database, 'SELECT manifest FROM versions ORDER BY xmin::text::bigint, ctid');
    return rows.map(({ manifest }) => Number(fromBinary(ManifestSchema, manifest as Uint8Array).epoch));
  }

  async expectNoFork(): Promise<void> {
    const epochs = await this.epochs();
    expect(epochs).toEqual(epochs.toSorted((a, b) => a - b));
    const rival = `SELECT 1 FROM versions GROUP BY model, version HAVING count(*) > 1
      UNION ALL SELECT 1 FROM versions GROUP BY model, parent_digest HAVING count(*) > 1`;
    expect(await server.query(this.database, rival)).toEqual([]);
  }
}

test('a follower follows while the leader lives, and takes over when it is killed in the middle of its commits', async () => {
  const replicas = new Replicas(await server.database());
  const leader = await replicas.leading();
  const follower = await replicas.following();
  const committing = replicas.commitUntilFailure(leader);
  await until('versions', 30_000, async () => (await replicas.epochs()).length > 20, leader.output);
  expect(follower.leads()).toBe(false);
  await leader.end('SIGKILL');
  await until('the follower to lead', 30_000, follower.leads, follower.output);
  await committing;
  await replicas.import(follower);
  expect((await replicas.epochs()).at(-1)).toBe(2);
  await replicas.expectNoFork();
});

test('a leader that ends in order is followed, and a follower that is told to end ends', async () => {
  const replicas = new Replicas(await server.database());
  const leader = await replicas.leading();
  const [follower, other] = [await replicas.following(), await replicas.following()];
  await other.end('SIGTERM');
  expect(other.child.exitCode).toBe(0);
  await leader.end('SIGTERM');
  expect(leader.child.exitCode).toBe(0);
  await until('the follower to lead', 30_000, follower.leads, follower.output);
  await replicas.import(follower);
  await replicas.expectNoFork();
});

test('a leader that was paused in the middle of its commits can commit nothing when it wakes, and ends', async () => {
  const replicas = new Replicas(await server.database());
  let leader = await replicas.leading();
  for (const epoch of [2, 3]) {
    const follower = await replicas.following();
    const committing = replicas.commitUntilFailure(leader);
    const before = (await replicas.epochs()).length;
    await until('versions', 30_000, async () => (await replicas.epochs()).length > before + 5, leader.output);
    leader.child.kill('SIGSTOP');
    await until('the follower to lead', 30_000, follower.leads, follower.output);
    await replicas.import(follower);
    // What clients asked of it meanwhile is done when it wakes.
    const queued = replicas.commitUntilFailure(leader);
    leader.child.kill('SIGCONT');
    await Promise.all([committing, queued]);
    const paused = leader;
    await until('the old leader to end', 30_000, () => paused.child.exitCode !== null, paused.output);
    // Its lease or its name among the replicas, whichever it looks at first.
    expect(paused.output()).toMatch(/may not commit any more|took this replica for dead/);
    await replicas.import(follower);
    expect((await replicas.epochs()).at(-1)).toBe(epoch);
    await replicas.expectNoFork();
    leader = follower;
  }
});

test('a leader that lives keeps its lease over a crash of the server', async () => {
  const replicas = new Replicas(await server.database());
  const leader = await replicas.leading();
  const follower = await replicas.following();
  await server.kill();
  await server.resume();
  await replicas.import(leader);
  // Until the leader has renewed for longer than a lease without a word would last.
  const renewed = `SELECT renewed_ms - extract(epoch FROM pg_postmaster_start_time()) * 1000 > 5000 AS long FROM leases`;
  const isLong = async (): Promise<boolean> => (await server.query(replicas.database, renewed))[0]?.['long'] === true;
  await until('renewals', 30_000, isLong, leader.output);
  expect(follower.leads()).toBe(false);
  expect(await replicas.epochs()).toEqual([1]);
});

import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { ContributionListSchema, ManifestSchema } from '@commonweight/proto';
import { afterAll, expect, test } from 'vitest';
import { until } from '../../support/processes.ts';
import { CoordinatorProcess } from './coordinator-process.ts';
import { Federation } from './federation.ts';
import { faultSections } from './index.ts';
import { readFolder } from './read-store.ts';

/** Sections spend most of their time waiting for agents that come back: some may run at once, not all of their processes. */
const AT_ONCE = 3;
/** The longest first, so that the lanes end together. */
const order = ['bad-links', 'nats-cluster', 'full-disk', 'postgres-kills', 'soak', 'replica-pauses'];
const names = faultSections.map(({ name }) => name).toSorted((a, b) => rankOf(a) - rankOf(b));

function rankOf(name: string): number {
  const rank = order.indexOf(name);
  return rank < 0 ? order.length : rank;
}

let running = 0;
const waiting: (() => void)[] = [];

async function inLane<T>(work: () => Promise<T>): Promise<T> {
  if (running >= AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  running += 1;
  try {
    return await work();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

test.concurrent.each(names.map((name) => [name]))(
  'section %s, each harm once: nothing is lost and nothing is counted twice',
  async (name) => {
    const section = faultSections.find((each) => each.name === name)!;
    expect(await section.lacks()).toBeUndefined();
    const { figures, violations } = await inLane(() => section.run({ seed: 1, minutes: 0, log: () => {} }));
    expect(violations).toEqual([]);
    expect(figures).toMatchObject({ lost: 0, doubled: 0, forks: 0 });
    expect(figures['updates']).toBeGreaterThan(0);
  },
  900_000,
);

const planted: { federation: Federation; coordinator: CoordinatorProcess }[] = [];
afterAll(async () => {
  for (const { federation, coordinator } of planted) {
    await federation.close();
    await coordinator.end('SIGKILL');
  }
});

test.concurrent(
  'defects planted into a real run are seen: an outbox that forgets, a version that counts an update again, a version that is gone',
  async () => {
    const { federation, coordinator } = await inLane(interruptedRun);
    const report = async (): Promise<{ violations: readonly string[] }> =>
      federation.report(await readFolder(coordinator.dataDir), {});
    expect((await report()).violations).toEqual([]);

    const left = uncommitted(federation, await readFolder(coordinator.dataDir));
    const { agent, id: forgotten } = left[0]!;
    rmSync(join(federation.folder, agent.id, 'outbox', `${forgotten}.update`));
    expect((await report()).violations).toEqual([expect.stringContaining(`I1: update ${forgotten} is lost`)]);

    const again = countAgain(coordinator.dataDir);
    expect((await report()).violations).toContainEqual(expect.stringContaining(`I1: update ${again} is counted in`));

    const database = new DatabaseSync(join(coordinator.dataDir, 'commonweight.sqlite'));
    database.exec('DELETE FROM versions WHERE version = 2');
    database.close();
    expect((await report()).violations).toContainEqual(expect.stringContaining('I2: version 2 of flowers is lost'));
  },
  900_000,
);

/** A run whose coordinator died and left an update in an outbox; all its processes have ended. */
async function interruptedRun(): Promise<(typeof planted)[number]> {
  const coordinator = await CoordinatorProcess.at();
  const url = `grpc://127.0.0.1:${coordinator.port}`;
  const options = { seed: 1, minutes: 0, log: () => {} };
  const federation = new Federation({ ...options, name: 'planted', agents: [url, url], apps: [] });
  planted.push({ federation, coordinator });
  coordinator.dataDir = join(federation.folder, 'coordinator');
  await coordinator.serving();
  await federation.begin(coordinator.port);
  const isLeft = (): boolean => federation.agents.some((agent) => agent.waiting().length > 0);
  await until('an update that is not committed yet', 30_000, isLeft);
  // What was read a moment ago may be committed by now: then another life of the coordinator leaves one.
  for (;;) {
    await coordinator.end('SIGKILL');
    await Promise.all(federation.agents.map((agent) => agent.end('SIGTERM')));
    if (uncommitted(federation, await readFolder(coordinator.dataDir)).length > 0) return { federation, coordinator };
    await coordinator.serving();
    for (const agent of federation.agents) agent.start();
    await federation.recovers('a restart', 1);
    await until('an update that is not committed yet', 30_000, isLeft);
  }
}

/** What is in an outbox and has no end. */
const uncommitted = (federation: Federation, { receipts }: Awaited<ReturnType<typeof readFolder>>) =>
  federation.agents.flatMap((agent) =>
    agent
      .waiting()
      .filter((id) => !receipts.has(id))
      .map((id) => ({ agent, id })),
  );

/** Writes the newest version anew with an update of version 2 in its list; gives the update's id. */
function countAgain(dataDir: string): string {
  const database = new DatabaseSync(join(dataDir, 'commonweight.sqlite'));
  const digestOf = (data: Uint8Array): Uint8Array => createHash('sha256').update(data).digest();
  const manifestOf = (sql: string) =>
    fromBinary(ManifestSchema, new Uint8Array(database.prepare(sql).get()!['manifest'] as Uint8Array));
  const listOf = (digest: Uint8Array) => {
    const row = database.prepare('SELECT data FROM blob_chunks WHERE digest = ?').get(digest)!;
    return fromBinary(ContributionListSchema, new Uint8Array(row['data'] as Uint8Array));
  };
  const second = manifestOf('SELECT manifest FROM versions WHERE version = 2');
  const newest = manifestOf('SELECT manifest FROM versions ORDER BY version DESC LIMIT 1');
  const [counted] = listOf(second.contributionsDigest).accepted;
  const accepted = [...listOf(newest.contributionsDigest).accepted, counted!];
  const list = toBinary(ContributionListSchema, create(ContributionListSchema, { accepted }));
  const digest = digestOf(list);
  database.prepare('INSERT INTO blobs (digest, size) VALUES (?, ?)').run(digest, list.length);
  database.prepare('INSERT INTO blob_chunks VALUES (?, 0, ?, ?)').run(digest, list, digest);
  const manifest = toBinary(ManifestSchema, create(ManifestSchema, { ...newest, contributionsDigest: digest }));
  const where = 'WHERE version = (SELECT max(version) FROM versions)';
  database.prepare(`UPDATE versions SET manifest = ?, digest = ? ${where}`).run(manifest, digestOf(manifest));
  database.close();
  return Buffer.from(counted!.updateId).toString('hex');
}

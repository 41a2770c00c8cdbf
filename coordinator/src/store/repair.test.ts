import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { blobOf, releaseOf } from '../../../test/support/commit-records.ts';
import { PostgresServer } from '../../../test/support/postgres.ts';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { parsePostgresUrl } from './postgres-address.ts';
import { PostgresReads } from './postgres-store.ts';
import { repairBlobs, type BlobSource } from './repair.ts';
import { SqliteStore } from './sqlite-store.ts';
import type { BlobRecord, Store, StoreReads } from './store.ts';

const closing: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of closing.splice(0).reverse()) await one.close();
});

const blobs = [blobOf(1, 1000), blobOf(2, 600_000), blobOf(3, 0)];

async function filled<S extends Store>(store: S): Promise<S> {
  await store.commit({ version: releaseOf('m', 1, blobs), blobs });
  return store;
}

/** A store as a source, as a backup is one. */
const sourceOf = (store: StoreReads): BlobSource => ({
  name: 'the backup',
  blob: async ({ digest }) => {
    const size = await store.blobSize(digest);
    return size === undefined ? undefined : store.readBlob(digest, 0, size);
  },
});

async function all<T>(from: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of from) items.push(item);
  return items;
}

const wanted = (of: readonly BlobRecord[]) => of.map(({ digest, data }) => ({ digest, size: data.length }));
const name = ({ digest }: BlobRecord): string => `blob ${Buffer.from(digest).toString('hex')}`;

async function expectWhole(store: StoreReads): Promise<void> {
  for (const { digest, data } of blobs) {
    expect(await store.blobSize(digest)).toBe(data.length);
    expect(Buffer.compare(await store.readBlob(digest, 0, data.length), data)).toBe(0);
  }
}

/** What was done to a database, with an SQL that both engines have. */
const harms: [string, string][] = [
  ['a chunk is gone', 'DELETE FROM blob_chunks WHERE position = 1'],
  ['all chunks are gone', 'DELETE FROM blob_chunks'],
  ['a blob is of another size', 'UPDATE blobs SET size = size / 2'],
  ['chunks change places', 'UPDATE blob_chunks SET position = position + 7'],
  ['digests of chunks are lost', 'UPDATE blob_chunks SET data_digest = data'],
];

test.each(harms)('SQLite: %s, and the blobs are whole again from a backup', async (_, sql) => {
  const backup = await filled(SqliteStore.open(temporaryFolder('repair')));
  closing.push(backup);
  const folder = temporaryFolder('repair');
  await (await filled(SqliteStore.open(folder))).close();
  const database = new DatabaseSync(join(folder, 'commonweight.sqlite'));
  database.exec(sql);
  database.close();
  const store = SqliteStore.open(folder);
  closing.push(store);
  const done = await all(repairBlobs(store, wanted([...blobs, ...blobs]), sourceOf(backup)));
  expect(done).toEqual(blobs.map(({ digest }) => ({ digest })));
  await expectWhole(store);
});

test('SQLite: a bit that is flipped anywhere in a blob is mended', async () => {
  const backup = await filled(SqliteStore.open(temporaryFolder('repair')));
  closing.push(backup);
  const folder = temporaryFolder('repair');
  await (await filled(SqliteStore.open(folder))).close();
  await fc.assert(
    fc.asyncProperty(fc.nat(599_999), fc.nat(7), async (at, bit) => {
      const database = new DatabaseSync(join(folder, 'commonweight.sqlite'));
      const where = 'digest = ? AND position = ?';
      const values = [blobs[1]!.digest, Math.floor(at / 262_144)] as const;
      const { data } = database.prepare(`SELECT data FROM blob_chunks WHERE ${where}`).get(...values) as {
        data: Uint8Array;
      };
      data[at % 262_144]! ^= 1 << bit;
      database.prepare(`UPDATE blob_chunks SET data = ? WHERE ${where}`).run(data, ...values);
      database.close();
      const store = SqliteStore.open(folder);
      try {
        await expect(store.readBlob(blobs[1]!.digest, 0, 600_000)).rejects.toThrow(/is damaged on disk/);
        await all(repairBlobs(store, wanted(blobs), sourceOf(backup)));
        await expectWhole(store);
      } finally {
        await store.close();
      }
    }),
    { numRuns: 15 },
  );
});

test('what the source does not have, or has damaged as well, stays as it is and is said', async () => {
  const store = await filled(SqliteStore.open(temporaryFolder('repair')));
  closing.push(store);
  const source: BlobSource = {
    name: 'a peer',
    blob: async ({ digest }) => {
      if (digest === blobs[0]!.digest) return undefined;
      if (digest === blobs[1]!.digest) return blobs[0]!.data;
      throw new Error('it does not answer');
    },
  };
  expect((await all(repairBlobs(store, wanted(blobs), source))).map(({ why }) => why)).toEqual([
    `a peer has no ${name(blobs[0]!)}`,
    `${name(blobs[1]!)} is damaged in a peer as well`,
    `${name(blobs[2]!)} cannot be had from a peer: it does not answer`,
  ]);
  await expectWhole(store);
});

test('what was collected does not come back', async () => {
  const backup = await filled(SqliteStore.open(temporaryFolder('repair')));
  const store = await filled(SqliteStore.open(temporaryFolder('repair')));
  closing.push(backup, store);
  const next = [blobOf(9, 10)];
  await store.commit({ version: releaseOf('m', 2, next), blobs: next });
  await store.collect('m', 1);
  const [first] = await all(repairBlobs(store, wanted(blobs), sourceOf(backup)));
  expect(first).toEqual({ digest: blobs[0]!.digest, why: `${name(blobs[0]!)} was collected meanwhile` });
  expect(await store.blobSize(blobs[0]!.digest)).toBeUndefined();
});

let server: PostgresServer;
beforeAll(async () => {
  server = await PostgresServer.start();
});
afterAll(() => server.close());

test.each(harms)('PostgreSQL, while a leader works with it: %s, and the blobs are whole again', async (_, sql) => {
  const backup = await filled(SqliteStore.open(temporaryFolder('repair')));
  closing.push(backup);
  const database = await server.database();
  const address = parsePostgresUrl(server.url(database));
  const open = () => PostgresReads.open(address, new Uint8Array(32));
  const leading = await (await open()).lead({ holder: 'the test', signal: new AbortController().signal });
  closing.push(await filled(leading));
  await server.query(database, sql);
  const store = await open();
  closing.push(store);
  const done = await all(repairBlobs(store, wanted(blobs), sourceOf(backup)));
  expect(done).toEqual(blobs.map(({ digest }) => ({ digest })));
  await expectWhole(leading);
});

import { connect, createServer, type AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectNothing, expectWhole, storeContract } from '../../../test/contract/store.ts';
import { blobOf, commitOf } from '../../../test/support/commit-records.ts';
import { PostgresServer } from '../../../test/support/postgres.ts';
import { parsePostgresUrl } from './postgres-address.ts';
import { openPool } from './postgres-pool.ts';
import { PostgresReads } from './postgres-store.ts';
import { StoreError } from './store.ts';

let server: PostgresServer;
beforeAll(async () => {
  server = await PostgresServer.start();
});
afterAll(() => server.close());

const KEY = new Uint8Array(32).fill(7);

interface Changes {
  publicKey?: Uint8Array;
  signal?: AbortSignal;
}

const openUrl = async (url: string, { publicKey = KEY, signal = new AbortController().signal }: Changes = {}) => {
  const reads = await PostgresReads.open(parsePostgresUrl(url), publicKey);
  return reads.lead({ holder: 'the test', signal });
};

const open = (database: string, changes: Changes = {}) => openUrl(server.url(database), changes);

storeContract('PostgresStore', () => {
  let database: Promise<string> | undefined;
  return async () => open(await (database ??= server.database()));
});

test('commits of the store are flushed before they are answered', async () => {
  expect(await server.query('postgres', 'SHOW fsync')).toEqual([{ fsync: 'on' }]);
});

test('killed at any commit, the server comes back with all that was said to be durable, and the store goes on', async () => {
  const database = await server.database();
  const store = await open(database);
  const last = 14;
  let done = 0;
  const committing = (async () => {
    for (let version = 1; version <= last; version++) {
      await store.commit(commitOf(version, 300_000));
      done = version;
    }
  })();
  let failure: unknown;
  committing.catch((error: unknown) => (failure = error));
  for (const at of [3, 8]) {
    await expect.poll(() => failure !== undefined || done >= at, { interval: 2 }).toBe(true);
    expect(failure).toBeUndefined();
    await server.kill();
    await server.resume();
  }
  await committing;
  for (let version = 1; version <= last; version++) await expectWhole(store, commitOf(version, 300_000), last);
  const [row] = await server.query(database, 'SELECT commits FROM leases');
  // Every commit was done once: none was lost, none was done again.
  expect(Number(row?.['commits'])).toBe(last);
  expect(store.lease.epoch).toBe(1);
  await store.close();
});

test('a commit whose answer was lost is found, and not done again', async () => {
  const database = await server.database();
  const cutter = await cutAfterCommit(server.url(database));
  const store = await openUrl(cutter.url);
  await store.commit(commitOf(1));
  cutter.cutNext();
  await store.commit(commitOf(2));
  expect(cutter.cuts()).toBe(1);
  await expectWhole(store, commitOf(2), 2);
  const [row] = await server.query(database, 'SELECT commits FROM leases');
  expect(Number(row?.['commits'])).toBe(2);
  await store.close();
  cutter.close();
});

/** A way to the server that, once told so, throws away the answer to a COMMIT and ends the connection. */
async function cutAfterCommit(url: string) {
  const target = new URL(url);
  const port = Number(target.port);
  let isArmed = false;
  let cuts = 0;
  const proxy = createServer((client) => {
    const upstream = connect(port, target.hostname);
    let isCutting = false;
    client.on('data', (bytes) => {
      if (isArmed && bytes.includes('COMMIT\0')) [isArmed, isCutting] = [false, true];
      upstream.write(bytes);
    });
    upstream.on('data', (bytes) => {
      if (!isCutting) return client.write(bytes);
      cuts++;
      client.destroy();
      return upstream.destroy();
    });
    client.on('error', () => {}).on('close', () => upstream.destroy());
    upstream.on('error', () => {}).on('close', () => client.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  target.port = String((proxy.address() as AddressInfo).port);
  return { url: target.href, cutNext: () => (isArmed = true), cuts: () => cuts, close: () => proxy.close() };
}

test('a commit whose connection breaks before it is durable is done again', async () => {
  const database = await server.database();
  const store = await open(database);
  await server.query(
    database,
    `CREATE SEQUENCE cuts; CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       IF nextval('cuts') <= 2 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$`,
  );
  const trigger = `CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON versions DEFERRABLE INITIALLY DEFERRED FOR EACH ROW`;
  await server.query(database, `${trigger} EXECUTE FUNCTION cut()`);
  await store.commit(commitOf(1));
  await expectWhole(store, commitOf(1), 1);
  expect(await server.query(database, 'SELECT last_value::int AS cuts FROM cuts')).toEqual([{ cuts: 3 }]);
  await store.close();
});

test('a flipped bit in a blob is reported by its name, and never served', async () => {
  const database = await server.database();
  const store = await open(database);
  const blob = blobOf(3, 700_000);
  await store.commit({ blobs: [blob] });
  const flip = 'UPDATE blob_chunks SET data = set_bit(data, 4001, 1 - get_bit(data, 4001)) WHERE position = 1';
  await server.query(database, flip);
  const name = Buffer.from(blob.digest).toString('hex');
  await expect(store.readBlob(blob.digest, 0, 700_000)).rejects.toThrow(`blob ${name} is damaged on disk (chunk 1)`);
  await store.close();
});

test('an epoch that is over commits nothing, and its holder is told', async () => {
  const database = await server.database();
  const store = await open(database);
  await store.commit(commitOf(1));
  await server.query(database, `UPDATE leases SET epoch = 9, holder = 'somebody else'`);
  const failure = store.commit(commitOf(2));
  await expect(failure).rejects.toThrow(/another coordinator leads \(somebody else, epoch 9\): this one, of epoch 1/);
  await expect(failure).rejects.toMatchObject({ kind: 'broken' });
  expect(await store.lease.lost).toBeInstanceOf(StoreError);
  await expectNothing(store, commitOf(2));
  await store.close();
});

test('a leader that stands still inside a transaction loses its lock, and what it did is taken back', async () => {
  const database = await server.database();
  await (await open(database)).close();
  const now = '(extract(epoch FROM clock_timestamp()) * 1000)::bigint';
  await server.query(database, `UPDATE leases SET holder = 'frozen', renewed_ms = ${now}`);
  const pool = openPool(parsePostgresUrl(server.url(database)));
  const frozen = await pool.connect();
  frozen.on('error', () => {});
  await frozen.query('BEGIN');
  await frozen.query('SELECT * FROM leases FOR UPDATE');
  await frozen.query(`INSERT INTO tasks VALUES ('frozen', '', '', '', '')`);
  const store = await open(database);
  expect(store.lease.epoch).toBe(2);
  await expect(frozen.query('COMMIT')).rejects.toThrow();
  expect(await store.tasks()).toEqual([]);
  frozen.release(true);
  await pool.end();
  await store.close();
});

test('a second version of the same number is refused, and not taken for a failure', async () => {
  const store = await open(await server.database());
  await store.commit(commitOf(1));
  await expect(store.commit({ version: commitOf(1).version })).rejects.toMatchObject({ kind: 'refused' });
  await store.close();
});

test('another signing key is refused', async () => {
  const database = await server.database();
  await (await open(database)).close();
  const other = open(database, { publicKey: new Uint8Array(32) });
  await expect(other).rejects.toThrow(/is signed with another key: copy signing-key.pem of its first coordinator/);
});

test('what cannot be opened is named, without its password', async () => {
  await expect(open('nothing')).rejects.toThrow(/there is no database postgres:\/\/127.0.0.1:\d+\/nothing: make it/);
  const failure = await openUrl('postgres://me:secret@127.0.0.1:1/db').catch((error: unknown) => error);
  expect(String(failure)).toMatch(/no PostgreSQL answers at postgres:\/\/127.0.0.1:1\/db/);
  expect(String(failure)).not.toContain('secret');
  for (const url of [
    'postgres://db.example/x',
    'mysql://127.0.0.1/x',
    'postgres://127.0.0.1',
    'postgres://localhost/x?host=h',
  ]) {
    expect(() => parsePostgresUrl(url)).toThrow(/^--postgres /);
  }
});

test('the database of a newer version is not touched', async () => {
  const database = await server.database();
  await (await open(database)).close();
  await server.query(database, 'UPDATE schema_version SET version = 99');
  await expect(open(database)).rejects.toThrow(/written by a newer version \(schema 99\)/);
});

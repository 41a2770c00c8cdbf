import { once } from 'node:events';
import { mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { expectNothing, expectWhole, storeContract } from '../../../test/contract/store.ts';
import { blobOf, commitOf, releaseOf, taskOf, versionOf } from '../../../test/support/commit-records.ts';
import { sourceProgram, temporaryFolder, type Program } from '../../../test/support/processes.ts';
import { migrations } from './schema.ts';
import { SqliteStore } from './sqlite-store.ts';
import { StoreError } from './store.ts';

const fresh = (): string => temporaryFolder('store');
const fileOf = (folder: string): string => join(folder, 'commonweight.sqlite');

storeContract('SqliteStore', () => {
  const folder = fresh();
  return async () => SqliteStore.open(folder);
});

/** Changes the file of a closed store with SQLite itself. */
function tamper(folder: string, sql: string, ...values: (number | Uint8Array)[]): number {
  const database = new DatabaseSync(fileOf(folder));
  const { changes } = database.prepare(sql).run(...values);
  database.close();
  return Number(changes);
}

/** The error of opening a folder: always a StoreError, whose message is for a person. */
async function openingError(folder: string): Promise<StoreError> {
  try {
    await SqliteStore.open(folder).close();
  } catch (error) {
    expect(error).toBeInstanceOf(StoreError);
    return error as StoreError;
  }
  throw new Error('the folder was opened');
}

test('a commit whose last part fails leaves nothing of the parts before it', async () => {
  const store = SqliteStore.open(fresh());
  await store.commit(commitOf(1));
  const broken = { ...commitOf(2), task: { ...taskOf('t', 2), state: null as unknown as string } };
  await expect(store.commit(broken)).rejects.toThrow(StoreError);
  await expectNothing(store, commitOf(2));
  await expectWhole(store, commitOf(1), 1);
  await store.close();
});

test('a flipped bit in any chunk of a blob is reported by the name of the blob, and its bytes are never served', async () => {
  const blob = blobOf(3, 700_000);
  for (const position of [0, 1, 2]) {
    const folder = fresh();
    const store = SqliteStore.open(folder);
    await store.commit({ blobs: [blob] });
    await store.close();
    const chunk = blob.data.slice(position * 262_144, (position + 1) * 262_144);
    chunk[chunk.length >> 1]! ^= 0x10;
    expect(tamper(folder, 'UPDATE blob_chunks SET data = ? WHERE position = ?', chunk, position)).toBe(1);
    const again = SqliteStore.open(folder);
    const name = Buffer.from(blob.digest).toString('hex');
    await expect(again.readBlob(blob.digest, 0, blob.data.length)).rejects.toThrow(
      `blob ${name} is damaged on disk (chunk ${position}): restore the data folder from a backup, or see \`commonweight verify --repair-from\``,
    );
    const other = position === 0 ? 262_144 : 0;
    expect(Buffer.compare(await again.readBlob(blob.digest, other, 10), blob.data.subarray(other, other + 10))).toBe(0);
    await again.close();
  }
});

test('a blob that lost a chunk or a part of one is reported by its name', async () => {
  const changes = [
    'DELETE FROM blob_chunks WHERE position = 1',
    'UPDATE blob_chunks SET data = substr(data, 1, 1000) WHERE position = 1',
    'UPDATE blob_chunks SET data = zeroblob(0), data_digest = zeroblob(32) WHERE position = 1',
  ];
  for (const change of changes) {
    const folder = fresh();
    const store = SqliteStore.open(folder);
    const blob = blobOf(3, 700_000);
    await store.commit({ blobs: [blob] });
    await store.close();
    expect(tamper(folder, change)).toBe(1);
    const again = SqliteStore.open(folder);
    await expect(again.readBlob(blob.digest, 0, 700_000)).rejects.toThrow(/is damaged on disk \(chunk 1\)/);
    await again.close();
  }
});

test.each(['blobs', 'version', 'receipts', 'task'])(
  'killed while it commits the %s, a store has nothing of that commit and all of the one before',
  async (place) => {
    const folder = fresh();
    const child = sourceProgram('test/support/stop-in-commit.ts', folder, place);
    const [line] = await once(createInterface({ input: child.child.stdout! }), 'line');
    expect(line).toBe('stopped');
    await child.end('SIGKILL');
    const store = SqliteStore.open(folder);
    await expectNothing(store, commitOf(2));
    await expectWhole(store, commitOf(1), 1);
    await store.commit(commitOf(2));
    await expectWhole(store, commitOf(2), 2);
    await store.close();
    expect(integrity(folder)).toBe('ok');
  },
);

test('killed at any time, a store has all that was said to be durable, and of the next commit the whole or nothing', async () => {
  const folder = fresh();
  let newest = 0;
  for (const more of [1, 3, 2, 5, 4, 1, 6]) {
    const child = committing(folder, newest + 1);
    const said = await killedAfter(child, newest + more);
    const store = SqliteStore.open(folder);
    const { version } = (await store.newestVersion('m'))!;
    // What was said to be durable is there, and at most the one commit that was under way.
    expect([said, said + 1]).toContain(version);
    for (let v = newest + 1; v <= version; v++) await expectWhole(store, commitOf(v, 1_000_000), version);
    await expectNothing(store, commitOf(version + 1, 1_000_000));
    await store.close();
    expect(integrity(folder)).toBe('ok');
    newest = version;
  }
});

const committing = (folder: string, first: number): Program =>
  sourceProgram('test/support/commit-forever.ts', folder, String(first));

/** Kills the process once it has said a number, and gives the last one it said. */
async function killedAfter(program: Program, number: number): Promise<number> {
  let said = 0;
  for await (const line of createInterface({ input: program.child.stdout! })) {
    said = Number(line);
    if (said === number) program.child.kill('SIGKILL');
  }
  await program.end('SIGKILL');
  expect(program.output()).toMatch(new RegExp(`^${number}$`, 'm'));
  return said;
}

function integrity(folder: string): unknown {
  const database = new DatabaseSync(fileOf(folder));
  const [row] = database.prepare('PRAGMA integrity_check').all();
  database.close();
  return row?.['integrity_check'];
}

test('a second process on the same folder is told so, and the first goes on', async () => {
  const folder = fresh();
  const child = committing(folder, 1);
  const lines = createInterface({ input: child.child.stdout! })[Symbol.asyncIterator]();
  await lines.next();
  const { message, cause } = await openingError(folder);
  expect(message).toBe(
    `the database ${fileOf(folder)} is in use by another coordinator: stop it, or give another folder with --data`,
  );
  expect(cause).toBeInstanceOf(Error);
  const { value } = await lines.next();
  expect(Number(value)).toBeGreaterThan(1);
  await child.end('SIGKILL');
});

test('a file that is no database is named, with what to do', async () => {
  const folder = fresh();
  writeFileSync(fileOf(folder), 'dear diary, '.repeat(1000));
  const { message, cause } = await openingError(folder);
  expect(message).toBe(
    `the database ${fileOf(folder)} is damaged: restore the data folder from a backup, or give a new one with --data`,
  );
  expect(cause).toBeInstanceOf(Error);
  expect(readFileSync(fileOf(folder), 'utf8')).toMatch(/^dear diary/);
});

test('a database that was cut anywhere is refused when it is opened', async () => {
  const folder = fresh();
  const store = SqliteStore.open(folder);
  await store.commit(commitOf(1, 500_000));
  await store.close();
  const whole = readFileSync(fileOf(folder));
  for (const part of [0.02, 0.3, 0.6, 0.999]) {
    const cut = fresh();
    writeFileSync(fileOf(cut), whole);
    truncateSync(fileOf(cut), Math.floor(whole.length * part));
    const { message, cause } = await openingError(cut);
    expect(message).toMatch(/commonweight\.sqlite is damaged: restore the data folder from a backup/);
    expect(cause).toBeInstanceOf(Error);
  }
});

test('a page of the database that is overwritten is a store error that names the mend', async () => {
  const folder = fresh();
  const store = SqliteStore.open(folder);
  for (let version = 1; version <= 200; version++) await store.commit({ version: versionOf('m', version) });
  await store.close();
  const bytes = readFileSync(fileOf(folder));
  // The first pages have the schema, which is read when it is opened.
  bytes.fill(0xff, Math.ceil((bytes.length * 0.85) / 4096) * 4096);
  writeFileSync(fileOf(folder), bytes);
  expect((await openingError(folder)).message).toMatch(/is damaged: restore the data folder from a backup/);
});

test('a row that an index does not find any more is damage, seen when the folder is opened', async () => {
  const folder = fresh();
  const store = SqliteStore.open(folder);
  await store.commit(commitOf(1));
  await store.close();
  // Without the index, nobody would be told of the row.
  const bytes = readFileSync(fileOf(folder));
  const { updateId } = commitOf(1).receipts![0]!;
  const at = bytes.lastIndexOf(updateId);
  expect(bytes.indexOf(updateId)).toBeLessThan(at);
  bytes[at]! ^= 1;
  writeFileSync(fileOf(folder), bytes);
  expect((await openingError(folder)).message).toMatch(/is damaged: restore the data folder from a backup/);
});

test('a database of a newer version is not touched, and opening it leaves nothing locked', async () => {
  const folder = fresh();
  await SqliteStore.open(folder).close();
  tamper(folder, 'PRAGMA user_version = 99');
  expect((await openingError(folder)).message).toBe(
    'the database was written by a newer version (schema 99): run that version, or restore a backup',
  );
  tamper(folder, `PRAGMA user_version = ${migrations.length}`);
  await SqliteStore.open(folder).close();
});

test('the epoch rises with every open, also of a folder from before there were epochs', async () => {
  const folder = fresh();
  for (const epoch of [1, 2, 3]) {
    const store = SqliteStore.open(folder);
    expect(store.lease.epoch).toBe(epoch);
    await store.commit(commitOf(epoch));
    await store.close();
  }
  const later = ['leases', 'signing_keys', 'replicas', 'sessions', 'rounds', 'claims', 'partial_chunks'];
  for (const table of [
    ...later,
    'variant_lists',
    'pins',
    'retained_chunks',
    'retained_updates',
    'candidates',
    'results',
    'channels',
    'report_snapshots',
  ])
    tamper(folder, `DROP TABLE ${table}`);
  for (const table of ['versions', 'blobs']) tamper(folder, `ALTER TABLE ${table} DROP COLUMN collected`);
  tamper(folder, 'ALTER TABLE tasks DROP COLUMN digest');
  tamper(folder, 'PRAGMA user_version = 1');
  const store = SqliteStore.open(folder);
  expect(store.lease.epoch).toBe(1);
  await expectWhole(store, commitOf(3), 3);
  await store.close();
});

test('the room of what was collected is given back to the disk; in a file of before that is so, it is used again', async () => {
  const folder = fresh();
  const store = SqliteStore.open(folder);
  const put = async (store: SqliteStore, versions: readonly number[]): Promise<void> => {
    for (const version of versions) {
      const blob = blobOf(version, 1_000_000);
      await store.commit({ version: releaseOf('m', version, [blob]), blobs: [blob] });
    }
  };
  await put(store, [1, 2, 3, 4, 5, 6]);
  await store.collect('m', 2);
  await store.close();
  expect(statSync(fileOf(folder)).size).toBeLessThan(3_000_000);

  const old = fresh();
  // What is there before the first table decides.
  writeFileSync(fileOf(old), '');
  tamper(old, 'PRAGMA journal_mode = WAL');
  tamper(old, 'CREATE TABLE other (id INTEGER)');
  const grown = SqliteStore.open(old);
  await put(grown, [1, 2, 3, 4, 5, 6]);
  await grown.collect('m', 2);
  await put(grown, [7, 8, 9, 10]);
  await grown.close();
  expect(statSync(fileOf(old)).size).toBeGreaterThan(6_000_000);
  expect(statSync(fileOf(old)).size).toBeLessThan(7_000_000);
});

test('a folder that cannot be made or is a file is named, with what to do', async () => {
  const file = join(fresh(), 'file');
  writeFileSync(file, '');
  for (const folder of [join(file, 'below'), file]) {
    const { message, cause } = await openingError(folder);
    expect(message).toBe(`cannot write to the data folder ${folder}: give another with --data, or change its rights`);
    expect(cause).toBeInstanceOf(Error);
  }
});

test('a folder where the database should be is named', async () => {
  const folder = fresh();
  mkdirSync(fileOf(folder));
  expect((await openingError(folder)).message).toContain(`cannot open the database ${fileOf(folder)}: `);
});

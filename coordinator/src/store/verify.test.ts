import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { gridFromWire } from '@commonweight/proto';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { temporaryFolder, until } from '../../../test/support/processes.ts';
import { startTraining, TestAgent, updateOf } from '../../../test/support/training.ts';
import { openCoordinator } from '../coordinator.ts';
import { openSigner } from '../identity/signer.ts';
import { backupTo, restoreFrom } from './backup.ts';
import { SqliteStore } from './sqlite-store.ts';
import { verifyStore, type VerifyReport } from './verify.ts';

/** A folder with two versions and three updates; every test works on a copy. */
const whole = join(temporaryFolder('verify'), 'data');

beforeAll(async () => {
  mkdirSync(whole);
  const service = await openCoordinator({ dataDir: whole });
  await startTraining(service);
  const agents = ['a', 'b', 'c'].map((id) => new TestAgent(service, id));
  agents.forEach((agent) => agent.ready());
  await until('the invitations', 10_000, () => agents.every((agent) => agent.assignments().length === 1));
  const grid = gridFromWire(agents[0]!.assignments()[0]!.grid!);
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
  await until('version 2', 10_000, async () => (await service.getTask('train')).version === 2n);
  await service.makeVariants('flowers', 2, { forms: ['int8-dynamic'], accuracyDropPointsMax: 0.5 });
  await service.close();
});

async function copy(): Promise<string> {
  const folder = join(temporaryFolder('verify-copy'), 'data');
  const store = SqliteStore.open(whole);
  await backupTo(store, whole, folder);
  await store.close();
  return folder;
}

async function verified(folder: string): Promise<VerifyReport> {
  const store = SqliteStore.open(folder);
  try {
    return await verifyStore(store, openSigner(folder).publicKey);
  } finally {
    await store.close();
  }
}

function change(folder: string, sql: string, ...values: (number | Uint8Array)[]): number {
  const database = new DatabaseSync(join(folder, 'commonweight.sqlite'));
  const { changes } = database.prepare(sql).run(...values);
  database.close();
  return Number(changes);
}

describe('a data folder that is verified', () => {
  test('is whole when nothing was done to it', async () => {
    const { models, damages } = await verified(await copy());
    expect(damages).toEqual([]);
    expect(models).toMatchObject([{ model: 'flowers', versions: 2, updates: 3 }]);
  });

  // Every kind of record; the version and the task names are columns that the manifest repeats.
  const columns = [
    ['versions', 'manifest'],
    ['versions', 'signature'],
    ['versions', 'digest'],
    ['blob_chunks', 'data'],
    ['blob_chunks', 'data_digest'],
    ['receipts', 'receipt'],
    ['receipts', 'signature'],
    ['variant_lists', 'list'],
    ['variant_lists', 'signature'],
  ] as const;
  test.each(columns)('shows a flipped bit in %s.%s, wherever it is', async (table, column) => {
    const folder = await copy();
    const database = new DatabaseSync(join(folder, 'commonweight.sqlite'));
    const rows = database.prepare(`SELECT rowid AS id, ${column} AS bytes FROM ${table}`).all() as {
      id: number;
      bytes: Uint8Array;
    }[];
    database.close();
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.nat(), fc.integer({ min: 0, max: 7 }), async (row, at, bit) => {
        const { id, bytes } = rows[row % rows.length]!;
        const flipped = Uint8Array.from(bytes);
        flipped[at % bytes.length]! ^= 1 << bit;
        change(folder, `UPDATE ${table} SET ${column} = ? WHERE rowid = ?`, flipped, id);
        try {
          expect((await verified(folder)).damages.length).toBeGreaterThan(0);
        } finally {
          change(folder, `UPDATE ${table} SET ${column} = ? WHERE rowid = ?`, bytes, id);
        }
      }),
      { numRuns: 12 },
    );
    expect((await verified(folder)).damages).toEqual([]);
  });

  test('names what is gone', async () => {
    const folder = await copy();
    expect(change(folder, 'DELETE FROM receipts WHERE rowid = (SELECT min(rowid) FROM receipts)')).toBe(1);
    expect((await verified(folder)).damages).toMatchObject([
      expect.stringMatching(/^version 2 of flowers: update \w+ has no receipt$/),
    ]);
    const other = await copy();
    change(other, 'DELETE FROM versions WHERE version = 1');
    expect((await verified(other)).damages).toMatchObject([
      'version 2 of flowers: version 1 is missing before it',
      'version 2 of flowers: its parent is another manifest',
    ]);
  });
});

describe('a backup', () => {
  test('is made while the store is in use, and restored it is the same', async () => {
    const [from, to] = [await copy(), join(temporaryFolder('restored'), 'data')];
    const service = await openCoordinator({
      dataDir: from,
      backups: { folder: join(from, 'backups'), everyMs: 3_600_000, keep: 2 },
    });
    await expect.poll(() => readdirSync(join(from, 'backups')).filter((name) => !name.startsWith('.')).length).toBe(1);
    await service.close();
    const [name = ''] = readdirSync(join(from, 'backups'));
    restoreFrom(join(from, 'backups', name), to);
    expect(await verified(to)).toEqual(await verified(from));
  });

  test('never lands on what is there, and is refused where it is none', async () => {
    const folder = await copy();
    const store = SqliteStore.open(folder);
    await expect(backupTo(store, folder, folder)).rejects.toThrow(/is there already/);
    await store.close();
    expect(() => restoreFrom(folder, folder)).toThrow(/is not empty/);
    expect(() => restoreFrom(temporaryFolder('empty'), join(temporaryFolder('new'), 'x'))).toThrow(
      /is no backup: it has no commonweight.sqlite/,
    );
  });
});

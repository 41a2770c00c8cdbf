// A coordinator that reads a version of a later epoch than its own.
import { join } from 'node:path';
import { logistic, writeModel } from '@commonweight/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PostgresServer } from '../../test/support/postgres.ts';
import { temporaryFolder } from '../../test/support/processes.ts';
import { Coordinator } from './coordinator.ts';
import { openSigner } from './identity/signer.ts';
import { parsePostgresUrl } from './store/postgres-address.ts';
import { PostgresReads } from './store/postgres-store.ts';

let server: PostgresServer;
beforeAll(async () => {
  server = await PostgresServer.start();
});
afterAll(() => server.close());

const model = writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 }));

/** Two leaders of one database, the second of which has imported a model. */
async function leaders() {
  const database = await server.database();
  const folder = temporaryFolder('epoch');
  const signer = openSigner(folder);
  const next = async (epoch: number) => {
    const reads = await PostgresReads.open(parsePostgresUrl(server.url(database)), signer.publicKey);
    const store = await reads.lead({ holder: `leader ${epoch}`, signal: new AbortController().signal });
    expect(store.lease.epoch).toBe(epoch);
    return store;
  };
  const coordinatorOf = (store: Awaited<ReturnType<typeof next>>): Coordinator =>
    new Coordinator(store, signer, { spoolDir: join(folder, 'spool'), onFatal: () => {} });
  const first = coordinatorOf(await next(1));
  await server.query(database, 'UPDATE leases SET renewed_ms = 0');
  const second = coordinatorOf(await next(2));
  await second.recover();
  await second.importModel('flowers', model);
  return { database, first, second };
}

test('one that is succeeded while it recovers says that another leads', async () => {
  const { first, second } = await leaders();
  await expect(first.recover()).rejects.toThrow(/^another coordinator leads \(leader 2, epoch 2\)/);
  await first.close();
  await second.close();
});

test('a lease that was set back is damage', async () => {
  const { database, first, second } = await leaders();
  await server.query(database, 'UPDATE leases SET epoch = 1');
  await expect(first.recover()).rejects.toThrow(
    'the lease says epoch 1, and version 1 of flowers was published in epoch 2: the database is damaged, restore a backup',
  );
  await first.close();
  await second.close();
});

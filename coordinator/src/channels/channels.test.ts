import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { logistic, writeModel } from '@commonweight/core';
import { openChannel, type Channel, type SignedChannel } from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { publishNext } from '../../../test/support/publish-next.ts';
import { ToldClock } from '../../../test/support/told-clock.ts';
import { openCoordinator, type CoordinatorOptions } from '../coordinator.ts';
import { openSigner, verifierOf } from '../identity/signer.ts';
import type { CoordinatorService } from '../service.ts';
import { SqliteStore } from '../store/sqlite-store.ts';
import { verifyStore } from '../store/verify.ts';
import type { Promotion } from './channel.ts';
import { GUARD } from './guard.ts';

const open: CoordinatorService[] = [];
const closeAll = async (): Promise<void> => {
  for (const service of open.splice(0)) await service.close();
};
afterEach(closeAll);

async function coordinatorIn(dataDir: string, options: Partial<CoordinatorOptions> = {}): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir, ...options });
  open.push(service);
  return service;
}

/** A folder with a model of so many versions. */
async function withVersions(versions: number): Promise<string> {
  const dataDir = join(temporaryFolder('channels'), 'data');
  const service = await coordinatorIn(dataDir);
  await service.importModel('m', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
  if (versions > 1) await publishNext(service, 'm', 0.1);
  for (let version = 3; version <= versions; version += 1) await service.rollbackModel('m', version - 2);
  await closeAll();
  return dataDir;
}

const stable = { model: 'm', channel: 'stable' };
const promotion = (version: number, more: Partial<Promotion> = {}): Promotion => ({
  version,
  cohorts: [],
  stages: [],
  everyMs: 0,
  guard: GUARD,
  needsReports: false,
  ...more,
});

const opened = (signed: SignedChannel): Channel => openChannel(signed, signed.publicKey, verifierOf(signed.publicKey));

test('a promoted version is signed with its manifest, told at once, and there after a restart', async () => {
  const dataDir = await withVersions(3);
  const service = await coordinatorIn(dataDir);
  await expect(service.getChannel('m', 'stable')).rejects.toThrow(
    'model m has no channel "stable": `commonweight model promote m --channel stable` makes it',
  );
  await expect(service.getChannel('?', 'stable')).rejects.toThrow('there is no model "?"');
  const heard: Channel[] = [];
  service.watchChannels((_, __, signed) => heard.push(opened(signed)));
  await service.promoteVersion(stable, promotion(0));
  await service.promoteVersion(stable, promotion(2, { percent: 10 }));
  const said = opened(await service.getChannel('m', 'stable'));
  expect(heard.map(({ revision }) => revision)).toEqual([1n, 2n]);
  expect(said).toMatchObject({ version: 3n, revision: 2n, rollout: { version: 2n, percent: 10 } });
  await closeAll();
  const again = await coordinatorIn(dataDir);
  expect(opened(await again.getChannel('m', 'stable'))).toEqual(said);
  expect(await again.listChannels('')).toMatchObject([
    { ...stable, revision: 2n, version: 3n, rollout: { version: 2n } },
  ]);
  await again.rollbackChannel(stable, undefined);
  expect(opened(await again.getChannel('m', 'stable'))).toMatchObject({ version: 3n, revision: 3n });
});

test('what is not there cannot be promoted, and leaves the channel as it was', async () => {
  const service = await coordinatorIn(await withVersions(2));
  await service.promoteVersion(stable, promotion(1));
  for (const [deed, message] of [
    [() => service.promoteVersion(stable, promotion(9)), 'model m has no version 9'],
    [() => service.promoteVersion({ model: '?', channel: 'stable' }, promotion(1)), 'there is no model "?"'],
    [() => service.holdChannel({ model: 'm', channel: 'beta' }, 'x'), 'model m has no channel "beta"'],
    [() => service.rollbackChannel(stable, 9), 'model m has no version 9'],
    [() => service.listChannels('?'), 'there is no model "?"'],
  ] as const) {
    await expect(deed()).rejects.toThrow(message);
  }
  expect(await service.listChannels('m')).toMatchObject([{ revision: 1n, version: 1n }]);
});

test('stages and new signatures come by themselves, one after the other, also over a restart', async () => {
  const dataDir = await withVersions(2);
  const clock = new ToldClock(1_700_000_000_000);
  let service = await coordinatorIn(dataDir, { clock, channelLifetimeMs: 100_000 });
  await service.promoteVersion(stable, promotion(1));
  await service.promoteVersion(stable, promotion(2, { stages: [1, 50, 100], everyMs: 10_000 }));
  const now = async (): Promise<unknown[]> => {
    const { revision, version, rollout } = opened(await service.getChannel('m', 'stable'));
    return [revision, version, rollout?.percent];
  };
  await clock.pass(9_000);
  expect(await now()).toEqual([2n, 1n, 1]);
  await clock.pass(2_000);
  expect(await now()).toEqual([3n, 1n, 50]);
  await closeAll();
  service = await coordinatorIn(dataDir, { clock, channelLifetimeMs: 100_000 });
  await clock.pass(10_000);
  expect(await now()).toEqual([4n, 2n, undefined]);
  await clock.pass(49_000);
  expect(await now()).toEqual([4n, 2n, undefined]);
  await clock.pass(2_000);
  expect(await now()).toEqual([5n, 2n, undefined]);
  expect(Number(opened(await service.getChannel('m', 'stable')).expiresMs)).toBe(clock.nowMs() + 100_000);
  // Signing the same anew is nothing that a person would read of.
  const [status] = await service.listChannels('m');
  expect(status?.changes.map(({ what }) => what)).toEqual([
    'version 1',
    'version 2 to 1 %',
    'version 2 to 50 %',
    'version 2 to everybody',
  ]);
});

test('a version in a channel stays whole, and one that was collected cannot be promoted', async () => {
  const dataDir = await withVersions(6);
  const service = await coordinatorIn(dataDir);
  await service.promoteVersion(stable, promotion(1));
  await service.promoteVersion(stable, promotion(2));
  await closeAll();
  const keeping = await coordinatorIn(dataDir, { keepVersions: { each: 2, models: {} } });
  await expect.poll(async () => (await keeping.listKept('m')).collected, { timeout: 20_000 }).toEqual([3, 4]);
  await expect(keeping.promoteVersion(stable, promotion(3))).rejects.toThrow('its blobs were collected');
  await keeping.rollbackChannel(stable, undefined);
  expect(await keeping.listChannels('m')).toMatchObject([{ version: 1n }]);
});

test('damage to a channel is reported by name, and never served', async () => {
  const dataDir = await withVersions(2);
  const service = await coordinatorIn(dataDir);
  await service.promoteVersion(stable, promotion(1));
  await closeAll();
  const damages = async (): Promise<string[]> => {
    const store = SqliteStore.open(dataDir);
    try {
      return (await verifyStore(store, openSigner(dataDir).publicKey)).damages;
    } finally {
      await store.close();
    }
  };
  expect(await damages()).toEqual([]);
  const tamper = (sql: string): void => {
    const database = new DatabaseSync(join(dataDir, 'commonweight.sqlite'));
    database.exec(sql);
    database.close();
  };
  tamper(`UPDATE channels SET state_json = replace(state_json, '"version":1', '"version":2')`);
  expect(await damages()).toEqual(['the record of channel stable of m is damaged: restore a backup']);
  await expect(coordinatorIn(dataDir)).rejects.toThrow('the record of channel stable of m is damaged');
});

import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { create, fromBinary } from '@bufbuild/protobuf';
import { ManifestSchema, type Artifact } from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { invited, startTraining, TestAgent, updateOf } from '../../../test/support/training.ts';
import { openCoordinator, type CoordinatorOptions } from '../coordinator.ts';
import { openSigner } from '../identity/signer.ts';
import type { CoordinatorService } from '../service.ts';
import { SqliteStore } from '../store/sqlite-store.ts';
import { verifyStore } from '../store/verify.ts';

const closing: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of closing.splice(0).reverse()) await one.close();
});

const lines: string[] = [];
const fatal: Error[] = [];
afterEach(() => {
  lines.length = 0;
  expect(fatal.splice(0)).toEqual([]);
});

async function opened(dataDir: string, options: Partial<CoordinatorOptions> = {}): Promise<CoordinatorService> {
  const service = await openCoordinator({
    dataDir,
    log: (line) => lines.push(line),
    onFatal: (error) => fatal.push(error),
    ...options,
  });
  closing.push(service);
  return service;
}

const fresh = (): string => join(temporaryFolder('collector'), 'data');

/** Publishes versions 2 to `last`. */
async function train(service: CoordinatorService, last: number, changes: object = {}): Promise<void> {
  await startTraining(service, { rounds: last - 1, ...changes });
  const agents = ['a', 'b', 'c'].map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  for (let round = 1; round < last; round++) {
    const grid = await invited(agents, round);
    for (const agent of agents) {
      const update = updateOf(agent.id, grid, { round: BigInt(round), baseVersion: BigInt(round) });
      expect(await agent.submit(update)).toMatchObject({ accepted: true });
    }
    await expect.poll(async () => (await service.getTask('train')).version).toBe(BigInt(round + 1));
  }
}

const artifactOf = async (service: CoordinatorService, version: number, role: string): Promise<Artifact> => {
  const { manifest } = await service.getModel('flowers', version);
  return fromBinary(ManifestSchema, manifest).artifacts.find((one) => one.role === role)!;
};

const collected = async (service: CoordinatorService): Promise<number[]> =>
  (await service.listKept('flowers')).collected;

async function verified(folder: string) {
  const store = SqliteStore.open(folder);
  closing.push(store);
  return verifyStore(store, openSigner(folder).publicKey);
}

test('older versions go as new ones come; their manifests stay, and who asks for their blobs hears why', async () => {
  const folder = fresh();
  const service = await opened(folder, { keepVersions: { each: 2, models: {} } });
  await train(service, 6);
  await expect.poll(() => collected(service)).toEqual([1, 2, 3, 4]);
  expect(
    (await service.listVersions('flowers')).map(({ manifest }) => Number(fromBinary(ManifestSchema, manifest).version)),
  ).toEqual([1, 2, 3, 4, 5, 6]);
  const gone = await artifactOf(service, 3, 'weights');
  await expect(service.readBlob(gone.digest, 0, 10)).rejects.toMatchObject({
    code: 'not-found',
    message: `blob ${Buffer.from(gone.digest).toString('hex')} was collected: only newer and pinned versions are kept`,
  });
  await expect(service.readBlob(create(ManifestSchema).parentDigest, 0, 10)).rejects.toThrow('there is no blob');
  const kept = await artifactOf(service, 5, 'weights');
  expect((await service.readBlob(kept.digest, 0, 10)).totalSize).toBe(Number(kept.size));
  // All versions have it in common.
  const graph = await artifactOf(service, 1, 'graph');
  expect((await service.readBlob(graph.digest, 0, 10)).totalSize).toBe(Number(graph.size));
  expect(lines).toContain('flowers: version 1 collected, 156 bytes');
  await service.close();
  const { models, damages } = await verified(folder);
  expect({ models, damages }).toMatchObject({ models: [{ versions: 6, collected: 4, updates: 15 }], damages: [] });
});

test('a policy that is new is caught up with when the coordinator starts, and one for a model holds for it alone', async () => {
  const folder = fresh();
  const first = await opened(folder);
  await train(first, 5);
  expect(await collected(first)).toEqual([]);
  await first.close();
  const other = await opened(folder, { keepVersions: { each: 2, models: { flowers: 4 } } });
  await expect.poll(() => collected(other)).toEqual([1]);
  await other.close();
  const none = await opened(folder, { keepVersions: { models: { roses: 2 } } });
  expect(await collected(none)).toEqual([1]);
  await none.close();
  const again = await opened(folder, { keepVersions: { each: 2, models: {} } });
  await expect.poll(() => collected(again)).toEqual([1, 2, 3]);
});

test('a pin outlives restarts, and what was collected cannot be pinned any more', async () => {
  const folder = fresh();
  const service = await opened(folder);
  await train(service, 4);
  expect(await service.pinVersion('flowers', 1, true)).toBe(1);
  expect(await service.pinVersion('flowers', 0, true)).toBe(4);
  expect(await service.pinVersion('flowers', 4, false)).toBe(4);
  await expect(service.pinVersion('flowers', 9, true)).rejects.toThrow(/model "flowers" has no version 9/);
  await service.close();
  const again = await opened(folder, { keepVersions: { each: 2, models: {} } });
  await expect.poll(() => again.listKept('flowers')).toEqual({ collected: [2], pinned: [1], retained: [] });
  await expect(again.pinVersion('flowers', 2, true)).rejects.toMatchObject({
    code: 'invalid',
    message: 'cannot pin version 2 of flowers: its blobs were collected',
  });
});

test('the forms of a version are collected with it, and no new ones are made', async () => {
  const folder = fresh();
  const service = await opened(folder);
  await train(service, 4);
  const policy = { forms: ['int8-dynamic'] as const, accuracyDropPointsMax: 0.5 };
  for (const version of [1, 4]) await service.makeVariants('flowers', version, policy);
  await service.close();
  const again = await opened(folder, { keepVersions: { each: 2, models: {} } });
  await expect.poll(() => collected(again)).toEqual([1, 2]);
  await expect(again.makeVariants('flowers', 2, policy)).rejects.toThrow(/^blob \w{64} was collected/);
  await again.close();
  const { models, damages } = await verified(folder);
  expect({ models, damages }).toMatchObject({ models: [{ versions: 4, collected: 2 }], damages: [] });
});

test('versions whose updates are retained stay auditable: they and their bases are not collected', async () => {
  const folder = fresh();
  const service = await opened(folder, { keepVersions: { each: 2, models: {} } });
  await train(service, 7, { retainUpdates: 3 });
  await expect
    .poll(() => service.listKept('flowers'))
    .toEqual({ collected: [1, 2, 3], pinned: [], retained: [5, 6, 7] });
  await service.close();
  expect(await verified(folder)).toMatchObject({ models: [{ retained: 9 }], damages: [] });
});

test('a damaged manifest stops the collection and nothing else', async () => {
  const folder = fresh();
  const first = await opened(folder);
  await train(first, 5);
  await first.close();
  const database = new DatabaseSync(join(folder, 'commonweight.sqlite'));
  database.prepare("UPDATE versions SET manifest = x'ffff' WHERE version = 4").run();
  database.close();
  const service = await opened(folder, { keepVersions: { each: 2, models: {} } });
  await expect
    .poll(() => lines)
    .toContain('nothing is collected: the manifest of version 4 of flowers is damaged: see `commonweight verify`');
  expect(await collected(service)).toEqual([]);
});

test('a blob that is gone without a policy is damage', async () => {
  const folder = fresh();
  const service = await opened(folder);
  await train(service, 2);
  const { digest } = await artifactOf(service, 1, 'weights');
  await service.close();
  const database = new DatabaseSync(join(folder, 'commonweight.sqlite'));
  database.prepare('UPDATE blobs SET collected = 1 WHERE digest = ?').run(digest);
  database.close();
  const name = Buffer.from(digest).toString('hex');
  expect((await verified(folder)).damages).toEqual([
    `version 1 of flowers: its weights was collected, and the version was not (blob ${name})`,
  ]);
});

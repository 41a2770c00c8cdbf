import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fromBinary } from '@bufbuild/protobuf';
import type { GridSpec } from '@commonweight/core';
import { gridFromWire, Reason, ManifestSchema, ReceiptSchema, type Manifest } from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../test/support/processes.ts';
import { config, invited, offerOf, sha256, startTraining, TestAgent, updateOf } from '../../test/support/training.ts';
import { openCoordinator, type CoordinatorOptions } from './coordinator.ts';
import { auditVersion } from './driver/audit.ts';
import { openSigner } from './identity/signer.ts';
import type { CoordinatorService } from './service.ts';
import { SqliteStore } from './store/sqlite-store.ts';
import { verifyStore } from './store/verify.ts';

const open: CoordinatorService[] = [];
afterEach(async () => {
  for (const service of open.splice(0)) await service.close();
});

const folder = (): string => join(temporaryFolder('rollback'), 'data');

async function coordinatorIn(dataDir: string, options: Partial<CoordinatorOptions> = {}): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir, ...options });
  open.push(service);
  return service;
}

const manifestOf = async (service: CoordinatorService, version = 0): Promise<Manifest> =>
  fromBinary(ManifestSchema, (await service.getModel('flowers', version)).manifest);

const gridOf = (agent: TestAgent): GridSpec => gridFromWire(agent.assignments().at(-1)!.grid!);

const updates = (agents: readonly TestAgent[], round: number, version: number) =>
  agents.map((agent) => {
    const of = { round: BigInt(round), baseVersion: BigInt(version) };
    return updateOf(agent.id, gridOf(agent), of);
  });

/** Three agents, and so many rounds that are published; where the task has more of them, the next one is open. */
async function trained(
  service: CoordinatorService,
  rounds: number,
  changes: object = {},
): Promise<{ agents: TestAgent[] }> {
  await startTraining(service, { rounds: 0, ...changes });
  const agents = threeAgents(service);
  for (let round = 1; round <= rounds; round++) await publishes(agents, round);
  return { agents };
}

function threeAgents(service: CoordinatorService): TestAgent[] {
  const agents = ['a', 'b', 'c'].map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  return agents;
}

async function publishes(agents: readonly TestAgent[], round: number): Promise<void> {
  await invited(agents, round);
  for (const [i, update] of updates(agents, round, round).entries()) {
    expect(await agents[i]!.submit(update)).toMatchObject({ accepted: true });
  }
}

test('a rollback is a new version with what the older one has, and training goes on from it', async () => {
  const service = await coordinatorIn(folder());
  const { agents } = await trained(service, 3, { strategy: { name: 'fedAdam' } });
  const older = await manifestOf(service, 2);
  const announced: bigint[] = [];
  service.watchModel('flowers', ({ manifest }) => announced.push(fromBinary(ManifestSchema, manifest).version));

  const { release, task } = await service.rollbackModel('flowers', 2);

  expect(task).toBe('train');
  const manifest = fromBinary(ManifestSchema, release.manifest);
  expect(manifest).toMatchObject({ version: 5n, restoredVersion: 2n, task: 'train', totalWeight: 0n });
  // Weights, and what the optimizer remembered with them.
  expect(manifest.artifacts).toEqual(older.artifacts);
  expect(manifest.artifacts.map(({ role }) => role)).toContain('server-memory');
  expect(manifest.parentDigest).toEqual(sha256((await service.getModel('flowers', 4)).manifest));
  await expect.poll(() => announced.at(-1)).toBe(5n);
  // The round that was open is no more; the next one is on the restored version.
  expect(await service.getTask('train')).toMatchObject({ roundsAbandoned: 1n, version: 5n, phase: 'Idle' });
  for (const agent of agents) agent.ready();
  await invited(agents, 5);
  const base = agents[0]!.assignments()[4]!.base!;
  expect(fromBinary(ManifestSchema, base.manifest).version).toBe(5n);
});

test('what the optimizer remembers goes back too: the same updates give the same version again', async () => {
  const service = await coordinatorIn(folder());
  const { agents } = await trained(service, 2, { strategy: { name: 'fedAdam' } });
  const round = async (number: number, version: number): Promise<string[]> => {
    await invited(agents, number);
    for (const agent of agents) {
      const { payload } = updateOf(agent.id, gridOf(agent));
      const of = { round: BigInt(number), baseVersion: BigInt(version), payload };
      expect(await agent.submit(updateOf(agent.id, gridOf(agent), of))).toMatchObject({ accepted: true });
    }
    return (await manifestOf(service)).artifacts.map(({ digest }) => Buffer.from(digest).toString('hex'));
  };
  const first = await round(3, 3);
  await service.rollbackModel('flowers', 3);
  for (const agent of agents) agent.ready();
  expect(await round(5, 5)).toEqual(first);
  expect(await manifestOf(service)).toMatchObject({ version: 6n, restoredVersion: 0n });
});

test('updates of the round that was open, and of versions from before, end as stale', async () => {
  const service = await coordinatorIn(folder());
  const { agents } = await trained(service, 2);
  const [first, second] = updates(agents, 3, 3);
  expect(await agents[0]!.submit(first!)).toMatchObject({ accepted: true });
  await service.rollbackModel('flowers', 1);
  expect(await agents[1]!.submit(second!)).toMatchObject({ accepted: false });
  for (const [i, update] of [first!, second!].entries()) {
    agents[i]!.say({ message: { case: 'offer', value: { updates: [offerOf(update.header)] } } });
    await expect
      .poll(() => agents[i]!.receipts().at(-1)?.outcome)
      .toMatchObject({ case: 'rejected', value: Reason.STALE_ROUND });
  }
});

test('without rounds nothing counts that was trained on what was rolled back', async () => {
  const service = await coordinatorIn(folder());
  await startTraining(service, {
    strategy: { name: 'fedBuff', bufferSize: 2, stalenessMax: 5 },
    cohort: { min: 2, max: 3 },
    rounds: 0,
  });
  const agents = threeAgents(service);
  await invited(agents);
  const late = agents.map((agent) => {
    const { invitation } = agent.assignments()[0]!;
    return updateOf(agent.id, gridOf(agent), { invitation });
  });
  for (const i of [0, 1]) expect(await agents[i]!.submit(late[i]!)).toMatchObject({ accepted: true });
  expect((await manifestOf(service)).version).toBe(2n);
  await service.rollbackModel('flowers', 1);
  // Its base is one version old; and yet the newest does not follow from it.
  const { accepted, receipt } = await agents[2]!.submit(late[2]!);
  expect(accepted).toBe(false);
  expect(fromBinary(ReceiptSchema, receipt!.receipt).outcome).toMatchObject({ value: Reason.STALE_ROUND });
});

test('a model that nobody trains goes back too, and a task that comes later begins from there', async () => {
  const service = await coordinatorIn(folder());
  await trained(service, 1, { rounds: 1 });
  await expect.poll(async () => (await service.getTask('train')).state).toBe('finished');
  expect(await service.rollbackModel('flowers', 1)).toMatchObject({ task: '' });
  expect(await manifestOf(service)).toMatchObject({ version: 3n, restoredVersion: 1n });
  await service.createTask('again', JSON.stringify(config));
  expect(await service.startTask('again')).toMatchObject({ version: 3n });
});

test('a task goes on from the newest version, whoever made it', async () => {
  const service = await coordinatorIn(folder());
  const { agents } = await trained(service, 1);
  await service.pauseTask('train');
  await service.createTask('other', JSON.stringify({ ...config, rounds: 0 }));
  // Its last round is still open, and would publish.
  await expect(service.startTask('other')).rejects.toThrow('its last round is still open');
  await publishes(agents, 2);
  expect((await service.getTask('train')).phase).toBe('Idle');
  await service.rollbackModel('flowers', 1);
  await service.rollbackModel('flowers', 2);
  expect(await service.getTask('train')).toMatchObject({ version: 3n });
  expect(await service.startTask('train')).toMatchObject({ version: 5n });
  await invited(agents, 3);
  for (const [i, update] of updates(agents, 3, 5).entries()) await agents[i]!.submit(update);
  expect((await manifestOf(service)).version).toBe(6n);
});

test('the state after a rollback outlives the process', async () => {
  const dataDir = folder();
  const service = await coordinatorIn(dataDir);
  await trained(service, 2);
  await service.rollbackModel('flowers', 2);
  await service.close();
  const again = await coordinatorIn(dataDir);
  expect(await again.getTask('train')).toMatchObject({ version: 4n });
  const agents = threeAgents(again);
  await invited(agents);
  expect(fromBinary(ManifestSchema, agents[0]!.assignments()[0]!.base!.manifest).version).toBe(4n);
  await again.close();
  const store = SqliteStore.open(dataDir);
  const { publicKey } = openSigner(dataDir);
  expect((await verifyStore(store, publicKey)).damages).toEqual([]);
  expect(await auditVersion(store, publicKey, { model: 'flowers', version: 4 })).toMatchObject({
    verdict: 'not-retained',
    why: 'version 4 of flowers restores version 2 and is made of no updates: audit that one',
  });
  await store.close();
});

test('what cannot be restored is said, and nothing has changed', async () => {
  const dataDir = folder();
  const fatal: Error[] = [];
  const service = await coordinatorIn(dataDir);
  await trained(service, 2);
  await expect(service.rollbackModel('flowers', 3)).rejects.toThrow('is no older one: choose one from 1 to 2');
  await expect(service.rollbackModel('flowers', 0)).rejects.toThrow('is no older one: choose one from 1 to 2');
  await expect(service.rollbackModel('trees', 1)).rejects.toThrow('there is no model "trees"');
  const digest = (await manifestOf(service, 1)).artifacts.find(({ role }) => role === 'weights')!.digest;
  expect(await service.getTask('train')).toMatchObject({ state: 'running', roundsAbandoned: 0n });
  await service.close();
  const database = new DatabaseSync(join(dataDir, 'commonweight.sqlite'));
  database.prepare('UPDATE blob_chunks SET data = zeroblob(length(data)) WHERE digest = ?').run(digest);
  database.close();
  const again = await coordinatorIn(dataDir, { onFatal: (error) => fatal.push(error) });
  await expect(again.rollbackModel('flowers', 1)).rejects.toThrow('is damaged');
  expect((await manifestOf(again)).version).toBe(3n);
  // A version that nobody needs to go on is no reason to end.
  expect(fatal).toEqual([]);
});

test('versions that were let go cannot be restored, and pinned ones can', async () => {
  const dataDir = folder();
  const service = await coordinatorIn(dataDir, { keepVersions: { each: 2, models: {} } });
  const { agents } = await trained(service, 1);
  await service.pinVersion('flowers', 2, true);
  for (let round = 2; round <= 5; round++) await publishes(agents, round);
  await expect.poll(async () => (await service.listKept('flowers')).collected).toContain(3);
  await expect(service.rollbackModel('flowers', 3)).rejects.toThrow('were let go');
  expect(await service.rollbackModel('flowers', 2)).toMatchObject({ task: 'train' });
});

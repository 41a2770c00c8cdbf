import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { type GridSpec } from '@commonweight/core';
import { ContributionListSchema, gridFromWire, ManifestSchema, Reason, ReceiptSchema } from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../test/support/processes.ts';
import { offerOf, sealed, startTraining, TestAgent, updateOf } from '../../test/support/training.ts';
import { openCoordinator } from './coordinator.ts';
import { auditVersion } from './driver/audit.ts';
import { openSigner } from './identity/signer.ts';
import type { CoordinatorService } from './service.ts';
import { SqliteStore } from './store/sqlite-store.ts';

const open: CoordinatorService[] = [];
afterEach(async () => {
  for (const service of open.splice(0)) await service.close();
});

const folder = (): string => join(temporaryFolder('asynchronous'), 'data');

async function opened(dataDir: string): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir });
  open.push(service);
  return service;
}

const fedBuff = {
  strategy: { name: 'fedBuff', bufferSize: 2, stalenessMax: 2 },
  cohort: { min: 1, max: 10 },
  rounds: 0,
  collectMs: 60_000,
};

async function running(dataDir: string, ids: readonly string[], changes: object = {}) {
  const service = await opened(dataDir);
  await startTraining(service, { ...fedBuff, ...changes });
  const agents = new Map(ids.map((id) => [id, new TestAgent(service, id)]));
  for (const agent of agents.values()) agent.ready();
  await expect.poll(() => [...agents.values()].every((agent) => agent.assignments().length === 1)).toBe(true);
  const grid = gridFromWire([...agents.values()][0]!.assignments()[0]!.grid!);
  return { service, agents, grid };
}

/** What an agent delivers that was invited on a version. */
function updateOn(agent: TestAgent, grid: GridSpec, version: number): ReturnType<typeof updateOf> {
  const assignment = agent.assignments().find(({ round }) => round === BigInt(version));
  const { payload } = updateOf(`${agent.id} on ${version}`, grid);
  const { invitation = new Uint8Array() } = assignment ?? {};
  return updateOf(agent.id, grid, { payload, round: BigInt(version), baseVersion: BigInt(version), invitation });
}

async function manifestOf(service: CoordinatorService, version = 0) {
  const { manifest } = await service.getModel('flowers', version);
  return fromBinary(ManifestSchema, manifest);
}

const reasonIn = (receipt: { receipt: Uint8Array } | undefined): unknown =>
  fromBinary(ReceiptSchema, receipt!.receipt).outcome;

test('a version every few updates: the slow are not waited for, and count less when they come', async () => {
  const { service, agents, grid } = await running(folder(), ['a', 'b', 'slow']);
  const [a, b, slow] = ['a', 'b', 'slow'].map((id) => agents.get(id)!) as [TestAgent, TestAgent, TestAgent];
  for (const version of [1, 2]) {
    expect(await a.submit(updateOn(a, grid, version))).toMatchObject({ accepted: true });
    expect(await b.submit(updateOn(b, grid, version))).toMatchObject({ accepted: true });
    expect((await manifestOf(service)).version).toBe(BigInt(version + 1));
    expect((await manifestOf(service)).totalWeight).toBe(2n * 4096n);
    // Each is invited once a version.
    await expect.poll(() => [a, b].map((agent) => agent.assignments().length)).toEqual([version + 1, version + 1]);
  }
  // The one that took its time is two versions behind.
  expect(slow.assignments()).toHaveLength(1);
  const late = updateOn(slow, grid, 1);
  expect(await slow.submit(late)).toMatchObject({ accepted: true });
  await a.submit(updateOn(a, grid, 3));
  const manifest = await manifestOf(service);
  expect(manifest).toMatchObject({
    version: 4n,
    strategy: 'fedBuff',
    totalWeight: 4096n + BigInt(Math.round(4096 / 3 ** 0.5)),
  });
  const { accepted } = fromBinary(
    ContributionListSchema,
    (await service.readBlob(manifest.contributionsDigest, 0, 1000)).data,
  );
  expect(accepted.map(({ updateId }) => Buffer.from(updateId).toString('hex'))).toContain(
    Buffer.from(late.header.updateId).toString('hex'),
  );
  expect(slow.receipts().map(({ outcome }) => outcome)).toEqual([{ case: 'committedVersion', value: 4n }]);
});

test('what is too old, from the future or a second one of its agent is refused by its reason', async () => {
  const { service, agents, grid } = await running(folder(), ['a', 'b', 'c']);
  const [a, b, c] = ['a', 'b', 'c'].map((id) => agents.get(id)!) as [TestAgent, TestAgent, TestAgent];
  for (const version of [1, 2, 3]) {
    // As an agent that was started again and is free.
    if (version > 1) c.ready();
    await expect.poll(() => [a, b, c].map((agent) => agent.assignments().length)).toEqual([version, version, version]);
    await a.submit(updateOn(a, grid, version));
    await b.submit(updateOn(b, grid, version));
  }
  c.ready();
  await expect.poll(() => c.assignments().length).toBe(4);
  expect((await manifestOf(service)).version).toBe(4n);
  const reason = async (agent: TestAgent, update: ReturnType<typeof updateOf>) =>
    reasonIn((await agent.submit(update)).receipt);
  expect(await reason(c, updateOn(c, grid, 1))).toEqual({ case: 'rejected', value: Reason.STALE_ROUND });
  expect(await reason(c, updateOn(c, grid, 5))).toEqual({ case: 'rejected', value: Reason.STALE_ROUND });
  expect(await reason(c, updateOf('c', grid, { round: 4n, baseVersion: 5n }))).toEqual({
    case: 'rejected',
    value: Reason.WRONG_BASE_VERSION,
  });
  const unbidden = updateOn(c, grid, 3);
  const { invitation } = updateOn(b, grid, 3).header;
  expect(await reason(c, { ...unbidden, header: sealed({ ...unbidden.header, invitation }) })).toEqual({
    case: 'rejected',
    value: Reason.NOT_INVITED,
  });
  await c.submit(updateOn(c, grid, 2));
  expect(await reason(c, updateOn(c, grid, 4))).toEqual({ case: 'rejected', value: Reason.NOT_COLLECTING });
});

test('after a crash the buffer is filled from the outboxes, to the same bytes', async () => {
  const weights = async (service: CoordinatorService) =>
    Buffer.from((await manifestOf(service)).artifacts.find(({ role }) => role === 'weights')!.digest).toString('hex');
  const dataDir = folder();
  const first = await running(dataDir, ['a', 'b']);
  const made = updateOn(first.agents.get('a')!, first.grid, 1);
  await first.agents.get('a')!.submit(made);
  await first.service.close();
  const service = await opened(dataDir);
  const [a, b] = [new TestAgent(service, 'a'), new TestAgent(service, 'b')];
  a.say({ message: { case: 'offer', value: { updates: [offerOf(made.header)] } } });
  await expect.poll(() => a.messages.map(({ message }) => message.case)).toContain('wanted');
  expect(await a.submit(made)).toMatchObject({ accepted: true });
  await b.submit(updateOn(first.agents.get('b')!, first.grid, 1));
  expect((await manifestOf(service)).version).toBe(2n);

  const again = await running(folder(), ['a', 'b']);
  for (const agent of [...again.agents.values()].reverse()) await agent.submit(updateOn(agent, again.grid, 1));
  expect(await weights(service)).toBe(await weights(again.service));
});

test.each([
  ['fedBuff', {}],
  ['a robust rule', { strategy: { name: 'median' }, asynchronous: { bufferSize: 2, stalenessMax: 2 } }],
  ['a server optimizer', { strategy: { name: 'fedAdam' }, asynchronous: { bufferSize: 2, stalenessMax: 2 } }],
])('%s: versions with stale updates are made again from those that were retained, bit for bit', async (_, changes) => {
  const dataDir = folder();
  const { service, agents, grid } = await running(dataDir, ['a', 'b', 'slow'], { retainUpdates: 3, ...changes });
  const [a, b, slow] = ['a', 'b', 'slow'].map((id) => agents.get(id)!) as [TestAgent, TestAgent, TestAgent];
  for (const version of [1, 2]) {
    await expect.poll(() => [a, b].map((agent) => agent.assignments().length)).toEqual([version, version]);
    for (const agent of [a, b]) await agent.submit(updateOn(agent, grid, version));
    await expect.poll(async () => Number((await manifestOf(service)).version)).toBe(version + 1);
  }
  await expect.poll(() => a.assignments().length).toBe(3);
  await slow.submit(updateOn(slow, grid, 1));
  await a.submit(updateOn(a, grid, 3));
  await expect.poll(async () => Number((await manifestOf(service)).version)).toBe(4);
  await service.close();
  const store = SqliteStore.open(dataDir);
  try {
    for (const version of [2, 3, 4]) {
      const audit = await auditVersion(store, openSigner(dataDir).publicKey, { model: 'flowers', version });
      expect(audit).toMatchObject({ verdict: 'same', updates: 2 });
    }
  } finally {
    await store.close();
  }
});

test('a paused task invites nobody and takes what is on its way; a configuration that makes no sense is refused', async () => {
  const { service, agents, grid } = await running(folder(), ['a', 'b']);
  await service.pauseTask('train');
  for (const agent of agents.values()) await agent.submit(updateOn(agent, grid, 1));
  expect((await manifestOf(service)).version).toBe(2n);
  expect(agents.get('a')!.assignments()).toHaveLength(1);
  await service.startTask('train');
  await expect.poll(() => agents.get('a')!.assignments().length).toBe(2);
  const create = (changes: object) => service.createTask('other', JSON.stringify({ ...fedBuff, ...base, ...changes }));
  const base = {
    model: 'flowers',
    plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 4 },
  };
  await expect(create({ cohort: { min: 3, max: 10 } })).rejects.toThrow('cohort.min is 3 and the buffer takes 2');
  await expect(create({ pauseMs: 5 })).rejects.toThrow('pauseMs is between two rounds, and there are none');
  await expect(create({ asynchronous: {} })).rejects.toThrow('fedBuff is asynchronous by itself');
  await expect(create({ strategy: { name: 'scaffold', agents: 2 }, asynchronous: {} })).rejects.toThrow(
    'it cannot work asynchronously',
  );
});

import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import type { GridSpec } from '@commonweight/core';
import { ManifestSchema, type Manifest } from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { receiptOf } from '../../test/support/commit-records.ts';
import { temporaryFolder } from '../../test/support/processes.ts';
import { invited, offerOf, startTraining, TestAgent, updateOf } from '../../test/support/training.ts';
import { systemClock } from './clock.ts';
import { Coordinator } from './coordinator.ts';
import { openSigner } from './identity/signer.ts';
import { SqliteStore } from './store/sqlite-store.ts';
import { StoreError } from './store/store.ts';

const IDS = ['a', 'b', 'c'];

const open: Coordinator[] = [];
afterEach(async () => {
  for (const service of open.splice(0)) await service.close();
});

/** A coordinator whose store and clock are at hand. */
async function site(changes: object = {}, folder = temporaryFolder('store-failure')) {
  const store = SqliteStore.open(folder);
  const fatal: Error[] = [];
  const log: string[] = [];
  let aheadMs = 0;
  const service = new Coordinator(store, openSigner(folder), {
    spoolDir: join(folder, 'spool'),
    clock: { ...systemClock, monotonicMs: () => performance.now() + aheadMs },
    log: (line) => log.push(line),
    onFatal: (error) => fatal.push(error),
  });
  open.push(service);
  await service.recover();
  if ((await service.listTasks()).length === 0) await startTraining(service, changes);
  const agents = IDS.map((id) => new TestAgent(service, id));
  agents.forEach((agent) => agent.ready());
  return { folder, store, service, agents, fatal, log, pass: (ms: number) => (aheadMs += ms) };
}

const newest = async (service: Coordinator): Promise<Manifest> =>
  fromBinary(ManifestSchema, (await service.getModel('flowers', 0)).manifest);
const weightsOf = ({ artifacts }: Manifest): string =>
  Buffer.from(artifacts.find(({ role }) => role === 'weights')!.digest).toString('hex');

/** Takes all room, down to the last page. */
async function fill(store: SqliteStore): Promise<void> {
  store.limitBytes(1);
  for (let i = 0; i < 10_000; i++) {
    const failure = await store.commit({ receipts: [receiptOf(i)] }).catch((error: unknown) => error);
    if (failure === undefined) continue;
    expect(failure).toMatchObject({ kind: 'full' });
    return;
  }
  throw new Error('the disk never got full');
}

async function trainUndisturbed(): Promise<string> {
  const { service, agents } = await site();
  const grid = await invited(agents);
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
  await expect.poll(async () => (await newest(service)).version).toBe(2n);
  return weightsOf(await newest(service));
}

test('a full disk: uploads are refused, reads are served, and with room again the same round goes on to the same bytes', async () => {
  const { store, service, agents, fatal, log, pass } = await site();
  const grid: GridSpec = await invited(agents);
  const updates = agents.map(({ id }) => updateOf(id, grid));
  await agents[0]!.submit(updates[0]!);
  await agents[1]!.submit(updates[1]!);
  await fill(store);
  await expect(agents[2]!.submit(updates[2]!)).rejects.toMatchObject({ kind: 'full' });
  expect(service.diskIsFull).toBe(true);
  expect(log.filter((line) => /the disk is full: make room/.test(line)).length).toBe(1);
  await expect(agents[0]!.submit(updates[0]!)).rejects.toMatchObject({ code: 'resource-exhausted' });

  const manifest = await newest(service);
  expect(manifest.version).toBe(1n);
  for (const { digest, size } of manifest.artifacts) {
    expect((await service.readBlob(digest, 0, Number(size))).data.length).toBe(Number(size));
  }

  store.limitBytes(2 ** 30);
  pass(31_000);
  for (const [i, agent] of agents.entries()) {
    agent.say({ message: { case: 'offer', value: { updates: [offerOf(updates[i]!.header)] } } });
    await expect.poll(() => agent.messages.some(({ message }) => message.case === 'wanted')).toBe(true);
    expect(await agent.submit(updates[i]!)).toMatchObject({ accepted: true });
  }
  await expect.poll(async () => (await newest(service)).version).toBe(2n);
  expect(weightsOf(await newest(service))).toBe(await trainUndisturbed());
  expect(fatal).toEqual([]);
});

test('a store that fails otherwise ends the coordinator, and a restart goes on', async () => {
  const { folder, store, service, agents, fatal } = await site();
  const grid = await invited(agents);
  const updates = agents.map(({ id }) => updateOf(id, grid));
  await agents[0]!.submit(updates[0]!);
  await agents[1]!.submit(updates[1]!);
  // What SQLite says when the disk fails to flush; nothing is known of what it holds then.
  store.commit = () => Promise.reject(new StoreError('cannot commit: disk I/O error'));
  await expect(agents[2]!.submit(updates[2]!)).rejects.toThrow(/disk I\/O error/);
  expect(fatal[0]).toMatchObject({ kind: 'broken' });
  expect((await newest(service)).version).toBe(1n);
  open.splice(open.indexOf(service), 1);
  await service.close();

  const again = await site({}, folder);
  for (const [i, agent] of again.agents.entries()) {
    expect(await agent.submit(updates[i]!)).toMatchObject({ accepted: true });
  }
  await expect.poll(async () => (await newest(again.service)).version).toBe(2n);
  expect(weightsOf(await newest(again.service))).toBe(await trainUndisturbed());
});

test('what a server optimizer remembers outlives a restart', async () => {
  const strategy = { name: 'fedAvgM', serverMomentum: 0.5 };
  const run = async (restart: boolean): Promise<string> => {
    let here = await site({ strategy, rounds: 3 });
    for (const round of [1, 2]) {
      const grid = await invited(here.agents, restart ? 1 : round);
      for (const { id } of here.agents) {
        const change = { round: BigInt(round), baseVersion: BigInt(round), weight: 10n };
        await here.agents
          .find((agent) => agent.id === id)!
          .submit(updateOf(id, grid, { ...change, payload: flat(grid) }));
      }
      await expect.poll(async () => (await newest(here.service)).version).toBe(BigInt(round + 1));
      if (!restart || round === 2) continue;
      open.splice(open.indexOf(here.service), 1);
      await here.service.close();
      here = await site({}, here.folder);
    }
    return weightsOf(await newest(here.service));
  };
  expect(await run(true)).toBe(await run(false));
});

/** The same payload for everybody, so that two runs may be compared. */
const flat = (grid: GridSpec): Uint8Array => updateOf('everybody', grid).payload;

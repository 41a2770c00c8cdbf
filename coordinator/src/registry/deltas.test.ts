import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fromBinary } from '@bufbuild/protobuf';
import { stepped, weightsFromBytes, weightsToBytes } from '@commonweight/core';
import { deltaPaths, ManifestSchema, type Artifact, type Manifest } from '@commonweight/proto';
import { afterEach, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { invited, sha256, startTraining, TestAgent, updateOf } from '../../../test/support/training.ts';
import { openCoordinator, type CoordinatorOptions } from '../coordinator.ts';
import { auditVersion } from '../driver/audit.ts';
import { openSigner } from '../identity/signer.ts';
import type { CoordinatorService } from '../service.ts';
import { repairBlobs } from '../store/repair.ts';
import { SqliteStore } from '../store/sqlite-store.ts';
import { verifyStore } from '../store/verify.ts';
import { blobOf } from './artifacts.ts';
import { travelling } from './delta-chain.ts';

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

const fresh = (): string => join(temporaryFolder('deltas'), 'data');

async function coordinatorIn(dataDir: string, options: Partial<CoordinatorOptions> = {}): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir, ...options });
  open.push(service);
  return service;
}

const IDS = ['a', 'b', 'c'];

/** Publishes versions 2 to `last`, of the same updates whatever the task says of its downlink. */
async function trained(service: CoordinatorService, last: number, changes: object = {}): Promise<void> {
  await startTraining(service, { rounds: last - 1, downlink: 'mxint4', ...changes });
  const agents = IDS.map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  for (let round = 1; round < last; round++) {
    const grid = await invited(agents, round);
    for (const agent of agents) {
      const { payload } = updateOf(`${agent.id} in ${round}`, grid);
      const update = updateOf(agent.id, grid, { payload, round: BigInt(round), baseVersion: BigInt(round) });
      expect(await agent.submit(update)).toMatchObject({ accepted: true });
    }
    await expect.poll(async () => (await service.getTask('train')).version).toBe(BigInt(round + 1));
  }
}

const manifestOf = async (service: CoordinatorService, version = 0): Promise<Manifest> =>
  fromBinary(ManifestSchema, (await service.getModel('flowers', version)).manifest);
const part = ({ artifacts }: Manifest, role: string): Artifact | undefined =>
  artifacts.find((one) => one.role === role);
const bytesOf = async (service: CoordinatorService, { digest }: Artifact): Promise<Uint8Array> =>
  (await service.readBlob(digest, 0, 1e6)).data;
const vectorOf = async (service: CoordinatorService, manifest: Manifest, role: string): Promise<Float32Array> =>
  weightsFromBytes(await bytesOf(service, part(manifest, role)!));

test('a version is the step of its delta from the one before, and its manifest knows the way from older ones', async () => {
  const service = await coordinatorIn(fresh());
  await trained(service, 5);
  for (let version = 2; version <= 5; version++) {
    const [before, manifest] = [await manifestOf(service, version - 1), await manifestOf(service, version)];
    const [delta, weights] = [part(manifest, 'delta')!, part(manifest, 'weights')!];
    expect(delta).toMatchObject({ fromDigest: part(before, 'weights')!.digest, toDigest: weights.digest });
    expect(delta.size).toBeLessThan(weights.size / 2n);
    const made = stepped(await vectorOf(service, before, 'weights'), await bytesOf(service, delta));
    expect(sha256(weightsToBytes(made))).toEqual(new Uint8Array(weights.digest));
  }
  const paths = deltaPaths(await manifestOf(service), part(await manifestOf(service), 'weights')!);
  // As many as are smaller together than the 156 bytes of the weights.
  expect(paths.length).toBeGreaterThan(1);
  expect(paths.at(-1)!.bytes).toBeLessThan(156);
});

test('what rounding leaves is carried on: weights and remainder together are those of a task that rounds nothing', async () => {
  const [rounded, plain] = [await coordinatorIn(fresh()), await coordinatorIn(fresh())];
  await trained(rounded, 6);
  await trained(plain, 6, { downlink: 'float32' });
  const manifest = await manifestOf(rounded);
  const [weights, left] = [
    await vectorOf(rounded, manifest, 'weights'),
    await vectorOf(rounded, manifest, 'remainder'),
  ];
  const wanted = await vectorOf(plain, await manifestOf(plain), 'weights');
  expect([...weights]).not.toEqual([...wanted]);
  for (const [i, value] of wanted.entries()) expect(weights[i]! + left[i]!).toBeCloseTo(value, 5);
  expect(part(await manifestOf(plain), 'delta')).toBeUndefined();
  expect(part(await manifestOf(plain), 'remainder')).toBeUndefined();
});

test('a delta that is no smaller than the weights is left out with those before it, and what rounding left is kept', async () => {
  const service = await coordinatorIn(fresh());
  await trained(service, 4);
  const weights = blobOf(new Uint8Array(156));
  const remainder = new Float32Array(39);
  const after = (bytes: number) => ({ step: new Uint8Array(bytes), remainder });
  const parent = await manifestOf(service);
  const { delta, earlierDeltas, remainder: kept } = travelling(parent, weights, after(156));
  expect([delta, earlierDeltas, kept?.data.length]).toEqual([undefined, [], 156]);
  // Of the chain there is as much as is smaller together.
  const own = part(parent, 'delta')!;
  const room = 156 - Number(own.size) - 1;
  expect(travelling(parent, weights, after(room)).earlierDeltas).toEqual([own]);
  expect(travelling(parent, weights, after(room + 1)).earlierDeltas).toEqual([]);
  expect(travelling(parent, weights, undefined)).toEqual({ delta: undefined, earlierDeltas: [], remainder: undefined });
});

test('a restart goes on from what rounding left, to the same bytes', async () => {
  const digests = new Set<string>();
  for (const restarts of [false, true]) {
    const dataDir = fresh();
    let service = await coordinatorIn(dataDir);
    await startTraining(service, { rounds: 3, downlink: 'mxint4' });
    for (let round = 1; round <= 3; round++) {
      if (restarts) {
        await service.close();
        service = await coordinatorIn(dataDir);
      }
      const agents = IDS.map((id) => new TestAgent(service, id));
      for (const agent of agents) agent.ready();
      const grid = await invited(agents);
      for (const agent of agents) {
        const { payload } = updateOf(`${agent.id} in ${round}`, grid);
        await agent.submit(updateOf(agent.id, grid, { payload, round: BigInt(round), baseVersion: BigInt(round) }));
      }
      await expect.poll(async () => (await service.getTask('train')).version).toBe(BigInt(round + 1));
      for (const agent of agents) agent.close();
    }
    const { artifacts } = await manifestOf(service);
    digests.add(artifacts.map(({ role, digest }) => `${role} ${Buffer.from(digest).toString('hex')}`).join(' '));
  }
  expect(digests.size).toBe(1);
});

describe('an audit', () => {
  const auditedIn = async (folder: string) => {
    const store = SqliteStore.open(folder);
    open.push(store);
    return auditVersion(store, openSigner(folder).publicKey, { model: 'flowers', version: 0 });
  };

  test.each([{}, { strategy: { name: 'fedAdam' } }, { strategy: { name: 'median' } }])(
    'makes the rounded version, its delta and what rounding left again: %o',
    async (changes) => {
      const folder = fresh();
      const service = await coordinatorIn(folder);
      await trained(service, 4, { retainUpdates: 2, ...changes });
      await service.close();
      expect(await auditedIn(folder)).toMatchObject({ verdict: 'same', version: 4, updates: 3 });
    },
  );

  test('sees that a task rounds otherwise than it did', async () => {
    const folder = fresh();
    const service = await coordinatorIn(folder);
    await trained(service, 3, { retainUpdates: 2 });
    await service.close();
    const database = new DatabaseSync(join(folder, 'commonweight.sqlite'));
    const changed = `UPDATE tasks SET config_json = replace(config_json, 'mxint4', 'float32'), digest = NULL`;
    database.exec(changed);
    database.close();
    expect(await auditedIn(folder)).toMatchObject({ verdict: 'different' });
  });
});

test('collecting lets go of what nobody can go on from, and keeps the deltas that newer versions name', async () => {
  const folder = fresh();
  const service = await coordinatorIn(folder, { keepVersions: { each: 2, models: {} } });
  await trained(service, 6);
  await expect.poll(async () => (await service.listKept('flowers')).collected).toEqual([1, 2, 3, 4]);
  const [newest, old] = [await manifestOf(service), await manifestOf(service, 3)];
  expect(newest.earlierDeltas.length).toBeGreaterThan(0);
  for (const delta of newest.earlierDeltas) expect((await bytesOf(service, delta)).length).toBe(Number(delta.size));
  await expect(bytesOf(service, part(old, 'weights')!)).rejects.toThrow(/was collected/);
  await expect(bytesOf(service, part(old, 'remainder')!)).rejects.toThrow(/was collected/);
  await service.close();
  const store = SqliteStore.open(folder);
  open.push(store);
  expect((await verifyStore(store, openSigner(folder).publicKey)).damages).toEqual([]);
});

test('a rollback brings back the weights with what rounding left of them, and rounds go on from there by deltas', async () => {
  const service = await coordinatorIn(fresh());
  await trained(service, 4, { rounds: 0 });
  await service.rollbackModel('flowers', 2);
  const [restored, older] = [await manifestOf(service), await manifestOf(service, 2)];
  expect(restored).toMatchObject({ version: 5n, restoredVersion: 2n });
  expect(restored.artifacts).toEqual(older.artifacts);
  expect(restored.earlierDeltas).toEqual(older.earlierDeltas);
});

test('a damaged delta is found, and whole again from another copy', async () => {
  const folder = fresh();
  const service = await coordinatorIn(folder);
  await trained(service, 3);
  const delta = part(await manifestOf(service), 'delta')!;
  const good = (await bytesOf(service, delta)).slice();
  await service.close();
  const database = new DatabaseSync(join(folder, 'commonweight.sqlite'));
  database.prepare('UPDATE blob_chunks SET data = ? WHERE digest = ?').run(good.slice().fill(1), delta.digest);
  database.close();
  const store = SqliteStore.open(folder);
  open.push(store);
  const { publicKey } = openSigner(folder);
  const { damages, blobs } = await verifyStore(store, publicKey);
  expect(damages).toEqual([expect.stringMatching(/^version 3 of flowers: its delta cannot be read/)]);
  const source = { name: 'the copy', blob: async () => good };
  for await (const { why } of repairBlobs(store, blobs, source)) expect(why).toBeUndefined();
  expect((await verifyStore(store, publicKey)).damages).toEqual([]);
});

test('a downlink that is not known is refused by its key', async () => {
  const service = await coordinatorIn(fresh());
  await expect(startTraining(service, { downlink: 'zip' })).rejects.toThrow(
    /downlink must be one of float32, mxint8, mxint4/,
  );
});

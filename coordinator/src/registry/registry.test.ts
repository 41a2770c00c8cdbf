import { verify } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { logistic, weightsFromBytes, writeModel } from '@commonweight/core';
import {
  ContributionListSchema,
  ManifestSchema,
  openManifest,
  SignatureError,
  SignedManifestSchema,
  signedBytes,
  type ContributionList,
  type Manifest,
  type SignedManifest,
  type VerifyEd25519,
} from '@commonweight/proto';
import { createPublicKey } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { invited, sha256, startTraining, TestAgent, updateOf } from '../../../test/support/training.ts';
import { openCoordinator } from '../coordinator.ts';
import { openSigner } from '../identity/signer.ts';
import type { CoordinatorService } from '../service.ts';
import { SqliteStore } from '../store/sqlite-store.ts';
import { StoreError, type BlobRecord, type Store } from '../store/store.ts';
import { Registry, type OpenVersion } from './registry.ts';

const AGENTS = ['a', 'b', 'c'];
const onnx = writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 }));

const closing: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of closing.splice(0).reverse()) await one.close();
});

function registryIn(folder = temporaryFolder('registry')): { registry: Registry; store: Store } {
  const store = SqliteStore.open(folder);
  closing.push(store);
  return { registry: new Registry(store, openSigner(folder)), store };
}

/** Ed25519 by node:crypto, from a raw key: independent of what the SDK uses. */
const verifyEd25519: VerifyEd25519 = (publicKey, message, signature) => {
  const x = Buffer.from(publicKey).toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  return verify(null, message, key, signature);
};

const manifestOf = ({ manifest }: SignedManifest): Manifest => fromBinary(ManifestSchema, manifest);

/** A coordinator that has published a version for each of `rounds` rounds. */
async function trained(rounds: number): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir: temporaryFolder('registry') });
  closing.push(service);
  await startTraining(service, { rounds });
  const agents = AGENTS.map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  for (let round = 1; round <= rounds; round++) {
    const grid = await invited(agents, round);
    for (const agent of agents) {
      const changes = { round: BigInt(round), baseVersion: BigInt(round), weight: BigInt(agent.id.charCodeAt(0)) };
      expect(await agent.submit(updateOf(agent.id, grid, changes))).toMatchObject({ accepted: true });
    }
  }
  return service;
}

test('versions are numbered from 1 without a gap, and each names the digest of the one before it', async () => {
  const service = await trained(4);
  const releases = await service.listVersions('flowers');
  expect(releases.map((release) => Number(manifestOf(release).version))).toEqual([1, 2, 3, 4, 5]);
  expect(manifestOf(releases[0]!).parentDigest).toHaveLength(0);
  for (const [i, release] of releases.slice(1).entries()) {
    expect(Buffer.from(manifestOf(release).parentDigest)).toEqual(Buffer.from(sha256(releases[i]!.manifest)));
  }
});

test('every version is signed by the published key, and its blobs are what their digests say', async () => {
  const service = await trained(2);
  for (const release of await service.listVersions('flowers')) {
    const { artifacts, contributionsDigest, version } = openManifest(release, service.publicKey, verifyEd25519);
    const blobs = artifacts.map(({ digest, size }) => ({ digest, size: Number(size) }));
    expect(artifacts.map(({ role }) => role)).toEqual(['graph', 'weights']);
    for (const { digest, size } of blobs) {
      const { data, totalSize } = await service.readBlob(digest, 0, size);
      expect(totalSize).toBe(size);
      expect(Buffer.from(sha256(data))).toEqual(Buffer.from(digest));
    }
    expect(contributionsDigest).toHaveLength(version === 1n ? 0 : 32);
  }
});

test('a manifest with one flipped bit anywhere is not believed', async () => {
  const service = await trained(1);
  const release = await service.getModel('flowers', 0);
  const { publicKey } = service;
  expect(openManifest(release, publicKey, verifyEd25519).version).toBe(2n);
  const flipped = (bytes: Uint8Array, bit: number): Uint8Array => {
    const copy = new Uint8Array(bytes);
    copy[bit >> 3]! ^= 1 << (bit & 7);
    return copy;
  };
  const places = (['manifest', 'signature', 'publicKey'] as const).flatMap((field) =>
    Array.from({ length: 8 * release[field].length }, (_, bit) => ({ field, bit })),
  );
  // One flip is cheap enough to try them all.
  for (const { field, bit } of places) {
    const forged = create(SignedManifestSchema, { ...release, [field]: flipped(release[field], bit) });
    expect(() => openManifest(forged, publicKey, verifyEd25519), `${field} bit ${bit}`).toThrow(SignatureError);
  }
  fc.assert(
    fc.property(fc.uniqueArray(fc.constantFrom(...places), { minLength: 1, maxLength: 20 }), (flips) => {
      const forged = create(SignedManifestSchema, { ...release });
      for (const { field, bit } of flips) forged[field] = flipped(forged[field], bit);
      expect(() => openManifest(forged, publicKey, verifyEd25519)).toThrow(SignatureError);
    }),
  );
});

test('a manifest cut short or made longer, another key and another kind of record are not believed', async () => {
  const service = await trained(1);
  const release = await service.getModel('flowers', 0);
  const other = openSigner(temporaryFolder('registry'));
  const forgeries = [
    { ...release, manifest: release.manifest.subarray(0, -1) },
    { ...release, manifest: Buffer.concat([release.manifest, Buffer.from([0x10, 0x63])]) },
    { ...release, signature: release.signature.subarray(1) },
    { ...release, publicKey: other.publicKey, signature: other.sign('Manifest', release.manifest) },
    { ...release, signature: other.sign('Manifest', release.manifest) },
  ];
  for (const forged of forgeries) {
    expect(() => openManifest(create(SignedManifestSchema, forged), service.publicKey, verifyEd25519)).toThrow(
      SignatureError,
    );
  }
  const folder = temporaryFolder('registry');
  const signer = openSigner(folder);
  const asReceipt = signer.sign('Receipt', release.manifest);
  expect(verifyEd25519(signer.publicKey, signedBytes('Receipt', release.manifest), asReceipt)).toBe(true);
  expect(verifyEd25519(signer.publicKey, signedBytes('Manifest', release.manifest), asReceipt)).toBe(false);
});

test('the key of a folder is made once', () => {
  const folder = temporaryFolder('registry');
  const first = openSigner(folder);
  const second = openSigner(folder);
  expect(second.publicKey).toEqual(first.publicKey);
  expect(openSigner(temporaryFolder('registry')).publicKey).not.toEqual(first.publicKey);
});

test('the contribution list has the digest that the manifest says, lists each update by id, and adds up', async () => {
  const service = await openCoordinator({ dataDir: temporaryFolder('registry') });
  closing.push(service);
  await startTraining(service);
  const agents = AGENTS.map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  const grid = await invited(agents);
  const updates = AGENTS.map((id, i) => updateOf(id, grid, { weight: BigInt(5 + i) }));
  for (const i of [2, 0, 1]) await agents[i]!.submit(updates[i]!);
  const { contributionsDigest, totalWeight } = manifestOf(await service.getModel('flowers', 2));
  const { data } = await service.readBlob(contributionsDigest, 0, 100_000);
  expect(Buffer.from(sha256(data))).toEqual(Buffer.from(contributionsDigest));
  const list: ContributionList = fromBinary(ContributionListSchema, data);
  const listed = list.accepted.map(({ updateId, weight }) => [Buffer.from(updateId).toString('hex'), weight]);
  const wanted = updates
    .map(({ header }) => [Buffer.from(header.updateId).toString('hex'), header.weight] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  expect(listed).toEqual(wanted.map((one) => [...one]));
  expect(list.accepted.reduce((sum, { weight }) => sum + weight, 0n)).toBe(totalWeight);
  // The list itself has one form.
  expect(Buffer.from(toBinary(ContributionListSchema, list))).toEqual(Buffer.from(data));
});

test('the name of a model is given once, also where two imports come at the same time', async () => {
  const { registry, store } = registryIn();
  const both = await Promise.allSettled([registry.importModel('m', onnx, 1), registry.importModel('m', onnx, 2)]);
  expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  const [refused] = both.filter((one) => one.status === 'rejected');
  expect(refused?.reason).toMatchObject({
    code: 'already-exists',
    message: expect.stringMatching(/"m" is there already/),
  });
  await expect(registry.importModel('m', onnx, 3)).rejects.toMatchObject({ code: 'already-exists' });
  expect(await store.versions('m')).toHaveLength(1);
});

const draftOf = (open: OpenVersion, change: number) => ({
  model: 'm',
  weights: open.weights.map((value) => value + change),
  memory: [],
  manifest: { createdMs: BigInt(change) },
});

test('of two children of one version only one is taken, and its number is never given again', async () => {
  const { registry, store } = registryIn();
  await registry.importModel('m', onnx, 1);
  const base = await registry.open('m');
  const [first, second] = [registry.child(base, draftOf(base, 1)), registry.child(base, draftOf(base, 2))];
  await store.commit(first);
  await expect(store.commit(second)).rejects.toThrow(StoreError);
  expect((await registry.open('m')).weights).toEqual(base.weights.map((value) => value + 1));
  expect(Number(manifestOf(await registry.release('m', 0)).version)).toBe(2);
});

test('a child keeps the graph and the contract of its parent, and only its weights are new', async () => {
  const { registry, store } = registryIn();
  await registry.importModel('m', onnx, 1);
  const base = await registry.open('m');
  const child = registry.child(base, draftOf(base, 1));
  await store.commit(child);
  const { manifest, weights } = await registry.open('m');
  expect(manifest.artifacts[0]).toEqual(base.manifest.artifacts[0]);
  expect([manifest.inputs, manifest.outputs]).toEqual([base.manifest.inputs, base.manifest.outputs]);
  expect(weights).toEqual(child.open.weights);
  expect(weightsFromBytes(child.blobs[0]!.data)).toEqual(weights);
});

test('blobs whose bytes are whole but another blob’s are refused by name', async () => {
  const { registry, store } = registryIn();
  await registry.importModel('m', onnx, 1);
  const base = await registry.open('m');
  const child = registry.child(base, draftOf(base, 1));
  // Every chunk has its own digest here; only the whole is not what it is called.
  const swapped: BlobRecord = {
    digest: child.blobs[0]!.digest,
    data: registry.child(base, draftOf(base, 2)).blobs[0]!.data,
  };
  await store.commit({ version: child.version, blobs: [swapped] });
  const name = Buffer.from(swapped.digest).toString('hex');
  await expect(registry.open('m')).rejects.toThrow(
    `blob ${name} is not what its name says: restore the data folder from a backup, or see \`commonweight verify --repair-from\``,
  );
});

test('what is not there is not found, with where to look', async () => {
  const { registry } = registryIn();
  await expect(registry.release('m', 0)).rejects.toMatchObject({ code: 'not-found', message: /no model "m"/ });
  await registry.importModel('m', onnx, 1);
  await expect(registry.release('m', 7)).rejects.toMatchObject({
    code: 'not-found',
    message: 'model "m" has no version 7: see `commonweight model show m`',
  });
  await expect(registry.release('n', 7)).rejects.toMatchObject({ code: 'not-found' });
  await expect(registry.blob(sha256(Buffer.from('?')))).rejects.toMatchObject({ code: 'not-found' });
});

test('what a strategy remembers comes back with the version that it belongs to', async () => {
  const { registry, store } = registryIn();
  await registry.importModel('m', onnx, 1);
  const base = await registry.open('m');
  expect(base.memory).toEqual([]);
  const memory = [base.weights.map((value) => 2 * value), base.weights.map(() => 0.5)];
  await store.commit(registry.child(base, { ...draftOf(base, 1), memory }));
  expect((await registry.open('m')).memory).toEqual(memory);
  const next = await registry.open('m');
  await store.commit(registry.child(next, draftOf(next, 1)));
  expect((await registry.open('m')).memory).toEqual([]);
});

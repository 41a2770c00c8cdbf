import { create } from '@bufbuild/protobuf';
import { encodeStep, roundedVersion, seeded, weightsToBytes } from '@commonweight/core';
import { ArtifactSchema, ManifestSchema, type Artifact, type Manifest } from '@commonweight/proto';
import { beforeEach, describe, expect, test } from 'vitest';
import { BlobCache } from '../cache/blob-cache.ts';
import { TransportError } from '../errors.ts';
import { hex } from '../hex.ts';
import { MemoryStorage } from '../platform/storage.ts';
import { sha256 } from '../trust/sha256.ts';
import { weightsByDeltas } from './by-deltas.ts';

const LENGTH = 40_000;
const VERSIONS = 5;

const drawn = (seed: number, deviation: number): Float32Array => {
  const random = seeded(seed);
  return Float32Array.from({ length: LENGTH }, () => random.normal() * deviation);
};

interface Version {
  manifest: Manifest;
  weights: Artifact;
  bytes: Uint8Array;
}

const artifact = (role: string, bytes: Uint8Array): Artifact =>
  create(ArtifactSchema, { role, variant: 'fp32', digest: sha256(bytes), size: BigInt(bytes.length) });

/** Blobs that a coordinator has. */
const there = new Map<string, Uint8Array>();

/** Versions of which each is a step from the one before. */
function versions(): Version[] {
  const made: Version[] = [];
  let weights = drawn(1, 0.1);
  let deltas: Artifact[] = [];
  for (let version = 1; version <= VERSIONS; version++) {
    const before = made.at(-1);
    if (before !== undefined) {
      const change = drawn(version, 1e-3);
      const wanted = weights.map((weight, i) => weight + change[i]!);
      const rounded = roundedVersion(weights, wanted, undefined, 'mxint4')!;
      const step = encodeStep(rounded.step);
      weights = rounded.weights;
      const delta = artifact('delta', step);
      there.set(hex(delta.digest), step);
      delta.fromDigest = before.weights.digest;
      delta.toDigest = sha256(weightsToBytes(weights));
      deltas = [delta, ...deltas];
    }
    const bytes = weightsToBytes(weights).slice();
    const own = artifact('weights', bytes);
    there.set(hex(own.digest), bytes);
    const [newest, ...earlierDeltas] = deltas;
    const artifacts = [own, ...(newest === undefined ? [] : [newest])];
    const manifest = create(ManifestSchema, { model: 'm', version: BigInt(version), artifacts, earlierDeltas });
    made.push({ manifest, weights: own, bytes });
  }
  return made;
}

const all = versions();
const [first, second] = all as [Version, Version];
const last = all.at(-1)!;

let blobs: BlobCache;
let fetched: string[];
let faults: string[];
beforeEach(() => {
  blobs = new BlobCache(new MemoryStorage(), 'blobs', sha256);
  [fetched, faults] = [[], []];
});

const made = (
  { manifest, weights }: Version,
  download = (delta: Artifact): Promise<Uint8Array> => Promise.resolve(there.get(hex(delta.digest))!),
) =>
  weightsByDeltas(manifest, weights, {
    blobs,
    download: (delta) => {
      fetched.push(hex(delta.digest));
      return download(delta);
    },
    onFault: ({ message }) => faults.push(message),
  });

test('the weights of the next version are made of those that are here', async () => {
  await blobs.put(first.weights.digest, first.bytes);
  expect(Buffer.compare((await made(second))!, second.bytes)).toBe(0);
  expect(fetched).toHaveLength(1);
});

test('and those of a later one by several deltas, in their order', async () => {
  await blobs.put(first.weights.digest, first.bytes);
  expect(Buffer.compare((await made(last))!, last.bytes)).toBe(0);
  expect(fetched).toHaveLength(VERSIONS - 1);
});

test('from the version that is nearest, where there are several', async () => {
  for (const { weights, bytes } of all.slice(0, -1)) await blobs.put(weights.digest, bytes);
  await made(last);
  expect(fetched).toHaveLength(1);
});

test('nothing is fetched where no older version is here, or the one that is here is damaged', async () => {
  expect(await made(last)).toBeUndefined();
  await blobs.put(first.weights.digest, first.bytes.slice(1));
  expect(await made(last)).toBeUndefined();
  expect([fetched, faults]).toEqual([[], []]);
});

test('deltas that are larger together than the weights are left alone', async () => {
  await blobs.put(first.weights.digest, first.bytes);
  const large = last.manifest.earlierDeltas.map((delta) => ({ ...delta, size: last.weights.size }));
  expect(await made({ ...last, manifest: { ...last.manifest, earlierDeltas: large } })).toBeUndefined();
  expect(fetched).toEqual([]);
});

describe('the weights are to be fetched whole, and it is said why, where', () => {
  beforeEach(() => blobs.put(first.weights.digest, first.bytes));

  test('a delta leads elsewhere', async () => {
    const step = encodeStep({ exponent: -9, numbers: new Int32Array(LENGTH).fill(1) });
    expect(await made(second, () => Promise.resolve(step))).toBeUndefined();
    expect(faults).toEqual([
      "version 2 of 'm' is fetched whole, for its deltas are no use: they lead to other weights",
    ]);
  });

  test('what comes is no delta', async () => {
    expect(await made(second, () => Promise.resolve(new Uint8Array(50)))).toBeUndefined();
    expect(faults).toEqual([expect.stringMatching(/no use: these bytes are no step/)]);
  });

  test.each(['not-found', 'invalid', 'corrupted'] as const)('a delta is %s there', async (code) => {
    expect(await made(second, () => Promise.reject(new TransportError(code, 'no')))).toBeUndefined();
    expect(faults).toHaveLength(1);
  });
});

test('a download that is given up is no fault of the deltas, and nothing is fetched in its place', async () => {
  await blobs.put(first.weights.digest, first.bytes);
  await expect(made(second, () => Promise.reject(new TransportError('cancelled', 'ended')))).rejects.toThrow('ended');
  expect(faults).toEqual([]);
});

test('a link that breaks is no fault of the deltas', async () => {
  await blobs.put(first.weights.digest, first.bytes);
  await expect(made(second, () => Promise.reject(new TransportError('unavailable', 'gone')))).rejects.toThrow('gone');
  expect(faults).toEqual([]);
});

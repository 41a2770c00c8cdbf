import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { ArtifactSchema, ManifestSchema } from '@commonweight/proto';
import type {
  BlobRecord,
  ChannelRecord,
  Commit,
  ReceiptRecord,
  RetainedUpdate,
  TaskRecord,
  VersionRecord,
} from '../../coordinator/src/store/store.ts';

export const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(bytes).digest());
export const text = (words: string): Uint8Array => new Uint8Array(Buffer.from(words));

/** A blob of `size` bytes that no other seed gives. */
export function blobOf(seed: number, size: number): BlobRecord {
  const data = Uint8Array.from({ length: size }, (_, i) => (Math.imul(i + 1, 2654435761) >>> 24) ^ (i >>> 8) ^ seed);
  return { digest: sha256(data), data };
}

/** Version `version` of a model, chained to the one before it. */
export function versionOf(model: string, version: number, changes: Partial<VersionRecord> = {}): VersionRecord {
  const digestOf = (number: number) => sha256(text(`${model} ${number}`));
  return {
    model,
    version,
    manifest: text(`manifest ${model} ${version}`),
    signature: text(`signature ${model} ${version}`),
    digest: digestOf(version),
    parentDigest: version === 1 ? new Uint8Array() : digestOf(version - 1),
    ...changes,
  };
}

/** A version whose manifest names its blobs, as that of a real one does: the first is the graph, the second the weights. */
export function releaseOf(model: string, version: number, blobs: readonly BlobRecord[]): VersionRecord {
  const artifacts = blobs.map(({ digest, data }, i) =>
    create(ArtifactSchema, { role: i === 0 ? 'graph' : 'weights', digest, size: BigInt(data.length) }),
  );
  const manifest = toBinary(ManifestSchema, create(ManifestSchema, { model, version: BigInt(version), artifacts }));
  return versionOf(model, version, { manifest });
}

export const retainedOf = (seed: number, size: number): RetainedUpdate => ({
  updateId: sha256(text(`update ${seed}`)),
  header: text(`header ${seed}`),
  payload: () => blobOf(seed, size).data,
});

export const channelOf = (revision: number, names: Partial<ChannelRecord> = {}): ChannelRecord => ({
  model: 'm',
  channel: 'stable',
  revision,
  version: 1,
  candidate: 0,
  before: 0,
  record: text(`record ${revision}`),
  signature: text(`signature ${revision}`),
  stateJson: `{"revision":${revision}}`,
  ...names,
});

export const receiptOf = (seed: number): ReceiptRecord => ({
  updateId: sha256(text(`update ${seed}`)),
  receipt: text(`receipt ${seed}`),
  signature: text(`signature ${seed}`),
});

export const taskOf = (task: string, round: number): TaskRecord => ({
  task,
  configJson: '{"model":"m"}',
  state: 'running',
  roundJson: `{"round":${round}}`,
  countersJson: `{"accepted":${round}}`,
});

/** A commit of a version with all that a round's end writes; forms come later. */
export type WholeCommit = Required<
  Omit<Commit, 'variants' | 'retained' | 'pin' | 'candidate' | 'result' | 'channel' | 'reports'>
>;

/** Everything that a round's end writes, labelled with its number. */
export const commitOf = (version: number, blobBytes = 1000): WholeCommit => ({
  version: versionOf('m', version),
  blobs: [blobOf(2 * version, blobBytes), blobOf(2 * version + 1, blobBytes + 1)],
  receipts: [receiptOf(2 * version), receiptOf(2 * version + 1)],
  task: taskOf('t', version),
  round: { task: 't', round: version, open: false },
});

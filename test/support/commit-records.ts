import { createHash } from 'node:crypto';
import type {
  BlobRecord,
  Commit,
  ReceiptRecord,
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

/** Everything that a round's end writes, labelled with its number. */
export const commitOf = (version: number, blobBytes = 1000): Required<Commit> => ({
  version: versionOf('m', version),
  blobs: [blobOf(2 * version, blobBytes), blobOf(2 * version + 1, blobBytes + 1)],
  receipts: [receiptOf(2 * version), receiptOf(2 * version + 1)],
  task: taskOf('t', version),
});

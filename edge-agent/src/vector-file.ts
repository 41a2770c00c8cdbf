import type { Sha256, Storage } from '@commonweight/client-sdk';
import { weightsFromBytes, weightsToBytes } from '@commonweight/core';
import { equalBytes } from '@commonweight/proto';
import { setAside } from './set-aside.ts';

const DIGEST_BYTES = 32;

/** Where vectors are kept. */
export interface VectorPlace {
  storage: Storage;
  sha256: Sha256;
}

/**
 * The float32 values of a file; undefined where there is none, where it has another length, since then it belongs to another model, and
 * where it is damaged: then it is set aside under another name and told.
 */
export async function readVector(
  { storage, sha256 }: VectorPlace,
  path: string,
  length: number,
  onDamaged: (path: string) => void,
): Promise<Float32Array | undefined> {
  const bytes = await storage.read(path);
  if (bytes === undefined || bytes.length !== 4 * length + DIGEST_BYTES) return undefined;
  const values = bytes.subarray(0, 4 * length);
  if (equalBytes(await sha256(values), bytes.subarray(4 * length))) return weightsFromBytes(values);
  onDamaged(await setAside(storage, path));
  return undefined;
}

/** Values and their digest. */
export async function writeVector({ storage, sha256 }: VectorPlace, path: string, vector: Float32Array): Promise<void> {
  const values = weightsToBytes(vector);
  const bytes = new Uint8Array(values.length + DIGEST_BYTES);
  bytes.set(values);
  bytes.set(await sha256(values), values.length);
  await storage.write(path, bytes);
}

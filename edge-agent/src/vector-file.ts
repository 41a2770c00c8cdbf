import { readIfThere, sha256, writeAtomic } from '@commonweight/client-sdk';
import { weightsFromBytes, weightsToBytes } from '@commonweight/core';
import { equalBytes } from '@commonweight/proto';
import { rename } from 'node:fs/promises';

const DIGEST_BYTES = 32;

/**
 * The float32 values of a file; undefined where there is none, where it has another length, since then it belongs to another model, and
 * where it is damaged: then it is set aside under another name and told.
 */
export async function readVector(
  path: string,
  length: number,
  onDamaged: (path: string) => void,
): Promise<Float32Array | undefined> {
  const bytes = await readIfThere(path);
  if (bytes === undefined || bytes.length !== 4 * length + DIGEST_BYTES) return undefined;
  const values = bytes.subarray(0, 4 * length);
  if (equalBytes(sha256(values), bytes.subarray(4 * length))) return weightsFromBytes(values);
  await rename(path, `${path}.damaged`);
  onDamaged(`${path}.damaged`);
  return undefined;
}

/** Values and their digest. */
export function writeVector(path: string, vector: Float32Array): Promise<void> {
  const values = weightsToBytes(vector);
  return writeAtomic(path, Buffer.concat([values, sha256(values)]));
}

import { createHash } from 'node:crypto';
import { equalBytes } from '@commonweight/proto';
import { StoreError } from './store.ts';

/** Bytes of one chunk of a blob: what one read touches at least. */
export const CHUNK_BYTES: number = 256 * 1024;

/** A chunk as it is kept: with the digest that every read checks. */
export interface Chunk {
  position: number;
  data: Uint8Array;
  digest: Uint8Array;
}

export function* chunksOf(data: Uint8Array): Generator<Chunk> {
  for (let start = 0, position = 0; start < data.length; start += CHUNK_BYTES, position++) {
    const part = data.subarray(start, start + CHUNK_BYTES);
    yield { position, data: part, digest: sha256(part) };
  }
}

/** Which bytes of what, and of what a person restores where they are damaged. */
export interface Range {
  /** What is said where it is damaged, such as `blob 1f2e…`. */
  name: string;
  size: number;
  offset: number;
  length: number;
  place: string;
}

/** A part of what was cut into chunks. Throws StoreError naming it where a chunk is gone or not what its digest says. */
export async function readChunks(
  { name, size, offset, length, place }: Range,
  chunkAt: (position: number) => Promise<Omit<Chunk, 'position'> | undefined>,
): Promise<Uint8Array> {
  const end = Math.min(offset + length, size);
  const result = new Uint8Array(Math.max(0, end - offset));
  for (let at = offset; at < end;) {
    const position = Math.floor(at / CHUNK_BYTES);
    const chunk = await chunkAt(position);
    const from = at - position * CHUNK_BYTES;
    const part = chunk?.data.subarray(from, from + end - at) ?? new Uint8Array();
    if (chunk === undefined || part.length === 0 || !equalBytes(sha256(chunk.data), chunk.digest)) {
      throw new StoreError(
        `${name} is damaged on disk (chunk ${position}): restore ${place} from a backup, or see \`commonweight verify --repair-from\``,
      );
    }
    result.set(part, at - offset);
    at += part.length;
  }
  return result;
}

/** What is read chunk by chunk may be let go in the middle of it: then that is said, and no damage. */
export async function unlessCollected(
  digest: Uint8Array,
  isCollected: () => Promise<boolean>,
  read: () => Promise<Uint8Array>,
): Promise<Uint8Array> {
  try {
    return await read();
  } catch (error) {
    throw (await isCollected()) ? wasCollected(digest) : error;
  }
}

export const wasCollected = (digest: Uint8Array): StoreError =>
  new StoreError(`${blobName(digest)} was collected: only newer and pinned versions are kept`, { kind: 'collected' });

export const notRetained = (updateId: Uint8Array): StoreError =>
  new StoreError(`${updateName(updateId)} is not retained`, { kind: 'collected' });

export const updateName = (updateId: Uint8Array): string => `update ${Buffer.from(updateId).toString('hex')}`;

export const blobName = (digest: Uint8Array): string => `blob ${Buffer.from(digest).toString('hex')}`;

const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();

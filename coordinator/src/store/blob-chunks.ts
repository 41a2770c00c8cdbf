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

/** Which bytes of which blob, and of what a person restores where they are damaged. */
interface Range {
  digest: Uint8Array;
  size: number;
  offset: number;
  length: number;
  place: string;
}

/** A part of a blob from its chunks. Throws StoreError naming the blob where a chunk is gone or not what its digest says. */
export async function readChunks(
  { digest, size, offset, length, place }: Range,
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
      const name = Buffer.from(digest).toString('hex');
      throw new StoreError(`blob ${name} is damaged on disk (chunk ${position}): restore ${place} from a backup`);
    }
    result.set(part, at - offset);
    at += part.length;
  }
  return result;
}

const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();

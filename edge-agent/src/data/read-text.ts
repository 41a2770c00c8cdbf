import { readFile } from 'node:fs/promises';
import { DataError } from './dataset.ts';

/** Bytes of a file that is read whole. */
export const FILE_BYTES_MAX: number = 512 * 1024 * 1024;

/** A file's bytes. Throws DataError where it cannot be read, or is too large. */
export async function readBytes(path: string): Promise<Buffer> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new DataError(`cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  if (bytes.length <= FILE_BYTES_MAX) return bytes;
  throw new DataError(`${path} has ${bytes.length} bytes; up to ${FILE_BYTES_MAX} are read: cut it into several files`);
}

/** A file of UTF-8 text. */
export async function readText(path: string): Promise<string> {
  const bytes = await readBytes(path);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DataError(`${path} is no UTF-8 text: save it as UTF-8`, { cause });
  }
}

import { CHUNK_BYTES_MAX } from '@commonweight/proto';
import { open } from 'node:fs/promises';
import { UsageError } from '../output/failure.ts';

/** Bytes that are sent chunk by chunk. */
export interface FileSource {
  size: number;
  chunks: AsyncIterable<Uint8Array>;
}

/** What is in memory already. */
export function sourceOf(bytes: Uint8Array): FileSource {
  return { size: bytes.length, chunks: parts() };
  async function* parts(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES_MAX) yield bytes.subarray(at, at + CHUNK_BYTES_MAX);
  }
}

/** Works with a file that is read as it is sent. Throws UsageError where it is empty. */
export async function withFile<T>(path: string, work: (source: FileSource) => Promise<T>): Promise<T> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    if (size === 0) throw new UsageError(`${path} is empty: give an ONNX file`);
    return await work({ size, chunks: parts() });
  } finally {
    await file.close();
  }
  async function* parts(): AsyncGenerator<Uint8Array> {
    for (;;) {
      // One of its own each: what is being sent may not change.
      const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(CHUNK_BYTES_MAX), 0, CHUNK_BYTES_MAX);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  }
}

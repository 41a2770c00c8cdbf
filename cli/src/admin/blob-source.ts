import { downloadBlob, openGrpcChannel, sha256, type BlobChunk, type GrpcChannel } from '@commonweight/client-sdk';
import { SqliteStore, type BlobSource } from '@commonweight/coordinator';
import { BLOB_BYTES_MAX, ModelService } from '@commonweight/proto';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { coordinatorUrl } from '../output/arguments.ts';
import { UsageError } from '../output/failure.ts';

type OpenSource = BlobSource & { close(): Promise<void> };

/** Another coordinator (`grpc://…`), a backup or another data folder, or the folder of an agent. Throws UsageError where it is none of them. */
export function openBlobSource(text: string): OpenSource {
  if (text.includes('://')) return new CoordinatorSource(coordinatorUrl('grpc')(text));
  const folder = resolve(text);
  if (existsSync(join(folder, 'commonweight.sqlite'))) return storeSource(folder);
  const cache = join(folder, 'blobs');
  if (existsSync(cache)) return cacheSource(folder, cache);
  throw new UsageError(
    `${text} has no blobs: give a backup, the folder of an agent, or a coordinator such as grpc://127.0.0.1:8443`,
  );
}

function storeSource(folder: string): OpenSource {
  const store = SqliteStore.open(folder);
  return {
    name: folder,
    blob: async ({ digest }) => {
      const size = await store.blobSize(digest);
      return size === undefined ? undefined : store.readBlob(digest, 0, size);
    },
    close: () => store.close(),
  };
}

/** Agents keep what they downloaded under its digest; what is damaged there is seen by who asked. */
function cacheSource(folder: string, cache: string): OpenSource {
  return {
    name: folder,
    blob: async ({ digest }) => {
      const path = join(cache, Buffer.from(digest).toString('hex'));
      return existsSync(path) ? readFileSync(path) : undefined;
    },
    close: async () => {},
  };
}

class CoordinatorSource implements OpenSource {
  readonly name: string;
  readonly #channel: GrpcChannel;

  constructor(url: string) {
    this.name = url;
    this.#channel = openGrpcChannel(url);
  }

  async blob({ digest, size }: Parameters<BlobSource['blob']>[0]): Promise<Uint8Array> {
    const read = (blob: Uint8Array, offset: number, signal: AbortSignal): AsyncIterable<BlobChunk> =>
      this.#read(blob, offset, signal);
    return downloadBlob(read, digest, size > 0 ? size : await this.#sizeOf(digest), { sha256 });
  }

  /** The size is a claim of the other side, so it has a bound. */
  async #sizeOf(digest: Uint8Array): Promise<number> {
    for await (const { totalSize } of this.#read(digest, 0, new AbortController().signal)) {
      if (totalSize <= BLOB_BYTES_MAX) return totalSize;
      throw new Error(`it would have ${totalSize} bytes`);
    }
    return 0;
  }

  async *#read(digest: Uint8Array, offset: number, signal: AbortSignal): AsyncGenerator<BlobChunk> {
    const request = { digest, offset: BigInt(offset) };
    for await (const chunk of this.#channel.serverStream(ModelService.method.download, request, { signal })) {
      yield { offset: Number(chunk.offset), totalSize: Number(chunk.totalSize), data: chunk.data };
    }
  }

  async close(): Promise<void> {
    this.#channel.close();
  }
}

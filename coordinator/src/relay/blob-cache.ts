import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statSync, utimesSync } from 'node:fs';
import { open, readFile, rename, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { BLOB_BYTES_MAX } from '@commonweight/proto';
import { hex } from '../driver/task-work.ts';
import { ServiceError, type BlobPart } from '../service.ts';

/** Reads a blob from where it is, in order. */
export type FetchBlob = (digest: Uint8Array) => AsyncIterable<{ totalSize: number; data: Uint8Array }>;

interface CacheOptions {
  dir: string;
  /** The most that blobs may take; the ones that were asked for longest ago go first. */
  bytesMax: number;
  fetch: FetchBlob;
  onFetched(bytes: number): void;
}

/** A blob that is here, or comes. */
interface Blob {
  name: string;
  file: FileHandle;
  size: number;
  /** Bytes of it that are here. */
  received: number;
  /** Resolves with the next bytes, or rejects. */
  more: Promise<void>;
}

/**
 * Blobs on a relay's disk, each fetched once for all agents of the site. Who asks gets bytes while they come; what came is kept only where
 * its digest is right, and agents check it too.
 */
export class BlobCache {
  readonly #options: CacheOptions;
  /** Least recently asked for first. */
  readonly #blobs = new Map<string, Promise<Blob>>();
  /** Those of them whose size is known. */
  readonly #open = new Map<string, Blob>();
  /** Files of before, by name and size, which nobody has asked for yet. */
  readonly #found = new Map<string, number>();
  #fetches = 0;

  constructor(options: CacheOptions) {
    this.#options = options;
    const { dir } = options;
    mkdirSync(dir, { recursive: true });
    for (const name of readdirSync(dir)) if (name.endsWith(PART)) rmSync(join(dir, name), { force: true });
    const files = readdirSync(dir).filter((name) => /^[0-9a-f]{64}$/.test(name));
    const all = files.map((name) => ({ name, ...ofFile(join(dir, name)) })).sort((a, b) => a.usedMs - b.usedMs);
    for (const { name, size } of all) this.#found.set(name, size);
  }

  /** Some bytes of a blob from an offset on: at least one, unless it ends there. Throws ServiceError. */
  async read(digest: Uint8Array, offset: number, lengthMax: number): Promise<BlobPart> {
    const blob = await this.#blob(digest);
    while (offset >= blob.received && blob.received < blob.size) await blob.more;
    const data = new Uint8Array(Math.max(0, Math.min(lengthMax, blob.received - offset)));
    for (let at = 0; at < data.length;) {
      const { bytesRead } = await blob.file.read(data, at, data.length - at, offset + at).catch((cause: unknown) => {
        throw new ServiceError('unavailable', `blob ${blob.name} went while it was read: try again`, { cause });
      });
      if (bytesRead === 0) throw new ServiceError('unavailable', `blob ${blob.name} ends too early: try again`);
      at += bytesRead;
    }
    return { data, totalSize: blob.size };
  }

  async close(): Promise<void> {
    for (const blob of this.#blobs.values()) await blob.then(({ file }) => file.close()).catch(() => {});
    this.#blobs.clear();
  }

  #blob(digest: Uint8Array): Promise<Blob> {
    const name = hex(digest);
    const known = this.#blobs.get(name);
    const blob = known ?? this.#opened(name, digest);
    this.#blobs.delete(name);
    this.#blobs.set(name, blob);
    if (known === undefined)
      blob.then(
        // It may have failed by then.
        (one) => this.#blobs.get(name) === blob && this.#open.set(name, one),
        () => this.#forget(name),
      );
    return blob;
  }

  #forget(name: string): void {
    this.#blobs.delete(name);
    this.#open.delete(name);
  }

  async #opened(name: string, digest: Uint8Array): Promise<Blob> {
    const path = join(this.#options.dir, name);
    if (this.#found.delete(name)) {
      // A file may be damaged, and no agent could ever use it.
      const bytes = await readFile(path).catch(() => undefined);
      if (bytes !== undefined && createHash('sha256').update(bytes).digest('hex') === name) {
        utimesSync(path, new Date(), new Date());
        const file = await open(path);
        return { name, file, size: bytes.length, received: bytes.length, more: Promise.resolve() };
      }
      await rm(path, { force: true });
    }
    return this.#fetched(name, digest);
  }

  /** Resolves once the first bytes are here; the rest goes on. */
  async #fetched(name: string, digest: Uint8Array): Promise<Blob> {
    const chunks = this.#options.fetch(digest)[Symbol.asyncIterator]();
    const first = await chunks.next();
    if (first.done === true) throw new ServiceError('unavailable', `blob ${name} did not come: try again`);
    const { totalSize } = first.value;
    if (totalSize > BLOB_BYTES_MAX) throw new ServiceError('invalid', `blob ${name} is larger than blobs may be`);
    await this.#makeRoom(totalSize);
    // Who fetches it again may do so before this one is removed.
    const path = join(this.#options.dir, `${name}.${(this.#fetches += 1)}${PART}`);
    const file = await open(path, 'w+');
    let waiting = awaited();
    const blob: Blob = { name, file, size: totalSize, received: 0, more: waiting.promise };
    const wake = (): void => {
      waiting.resolve();
      waiting = awaited();
      blob.more = waiting.promise;
    };
    const rest = async (): Promise<void> => {
      const hash = createHash('sha256');
      const take = async (data: Uint8Array): Promise<void> => {
        if (blob.received + data.length > totalSize) throw damaged(name);
        await file.write(data, 0, data.length, blob.received);
        hash.update(data);
        // The last bytes are given out only where all are right.
        if (blob.received + data.length === totalSize && hash.copy().digest('hex') !== name) throw damaged(name);
        blob.received += data.length;
        this.#options.onFetched(data.length);
        wake();
      };
      await take(first.value.data);
      for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) await take(next.value.data);
      if (blob.received < totalSize) throw new ServiceError('unavailable', `blob ${name} ends too early: try again`);
      await file.sync();
      await rename(path, join(this.#options.dir, name));
    };
    rest().catch(async (error: unknown) => {
      this.#forget(name);
      waiting.reject(error);
      await file.close().catch(() => {});
      await rm(path, { force: true }).catch(() => {});
    });
    return blob;
  }

  async #makeRoom(bytes: number): Promise<void> {
    const { dir, bytesMax } = this.#options;
    const sizes = [...this.#found.values(), ...[...this.#open.values()].map(({ size }) => size)];
    let taken = sizes.reduce((sum, size) => sum + size, bytes);
    const isRoom = (): boolean => taken <= bytesMax && this.#found.size + this.#blobs.size <= BLOBS_MAX;
    for (const [name, size] of this.#found) {
      if (isRoom()) return;
      this.#found.delete(name);
      await rm(join(dir, name), { force: true });
      taken -= size;
    }
    for (const name of this.#blobs.keys()) {
      if (isRoom()) return;
      const blob = this.#open.get(name);
      // What still comes is read by somebody.
      if (blob === undefined || blob.received < blob.size) continue;
      this.#forget(name);
      await rm(join(dir, name), { force: true });
      // Who reads it now reads on from the open file.
      setTimeout(() => void blob.file.close().catch(() => {}), CLOSE_MS).unref();
      taken -= blob.size;
    }
  }
}

/** How the names of files end that are not whole yet; the rest of one of these that a crash left is of no use. */
const PART = '.part';
/** Blobs that are kept, and so files that are open. */
const BLOBS_MAX = 512;
/** How long a file that was let go stays open for who reads it: one chunk is a moment. */
const CLOSE_MS = 10_000;

/** Nobody may be waiting when it fails. */
function awaited(): PromiseWithResolvers<void> {
  const waiting = Promise.withResolvers<void>();
  waiting.promise.catch(() => {});
  return waiting;
}

const damaged = (name: string): ServiceError =>
  new ServiceError('unavailable', `what came as blob ${name} is not that blob: try again`);

function ofFile(path: string): { size: number; usedMs: number } {
  const { size, mtimeMs } = statSync(path);
  return { size, usedMs: mtimeMs };
}

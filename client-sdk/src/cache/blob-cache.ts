import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { equalBytes } from '@commonweight/proto';
import { sha256 } from '../trust/sha256.ts';
import { readIfThere, writeAtomic } from './atomic-file.ts';

/** Blobs by their SHA-256, in a folder or, without one, in memory. What `get` returns was hashed just now. */
export class BlobCache {
  readonly #folder: string | undefined;
  readonly #memory = new Map<string, Uint8Array>();

  constructor(folder?: string) {
    this.#folder = folder;
  }

  /** The blob, or undefined where it is missing; a damaged one is thrown away. */
  async get(digest: Uint8Array): Promise<Uint8Array | undefined> {
    const name = nameOf(digest);
    if (this.#folder === undefined) return this.#memory.get(name);
    const path = join(this.#folder, name);
    const bytes = await readIfThere(path);
    if (bytes === undefined || equalBytes(sha256(bytes), digest)) return bytes;
    await rm(path, { force: true });
    return undefined;
  }

  /** Keeps a blob whose bytes were checked against the digest. */
  async put(digest: Uint8Array, bytes: Uint8Array): Promise<void> {
    const name = nameOf(digest);
    if (this.#folder === undefined) this.#memory.set(name, bytes);
    else await writeAtomic(join(this.#folder, name), bytes);
  }

  /** Deletes every blob but these, and what a crash left half written. */
  async keepOnly(digests: readonly Uint8Array[]): Promise<void> {
    const kept = new Set(digests.map(nameOf));
    for (const name of this.#memory.keys()) if (!kept.has(name)) this.#memory.delete(name);
    if (this.#folder === undefined) return;
    await mkdir(this.#folder, { recursive: true });
    for (const name of await readdir(this.#folder)) {
      if (!kept.has(name)) await rm(join(this.#folder, name), { force: true });
    }
  }
}

const nameOf = (digest: Uint8Array): string => Buffer.from(digest).toString('hex');

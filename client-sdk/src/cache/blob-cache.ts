import { equalBytes } from '@commonweight/proto';
import { hex } from '../hex.ts';
import type { Sha256 } from '../platform/platform.ts';
import type { Storage } from '../platform/storage.ts';

/** Blobs by their SHA-256. What `get` returns was hashed just now. */
export class BlobCache {
  readonly #storage: Storage;
  readonly #folder: string;
  readonly #sha256: Sha256;

  constructor(storage: Storage, folder: string, sha256: Sha256) {
    this.#storage = storage;
    this.#folder = folder;
    this.#sha256 = sha256;
  }

  /** The blob, or undefined where it is missing; a damaged one is thrown away. */
  async get(digest: Uint8Array): Promise<Uint8Array | undefined> {
    const path = this.#path(digest);
    const bytes = await this.#storage.read(path);
    if (bytes === undefined || (await this.isOf(digest, bytes))) return bytes;
    await this.#storage.remove(path);
    return undefined;
  }

  /** Whether there is a file for a blob, damaged perhaps. */
  async has(digest: Uint8Array): Promise<boolean> {
    return (await this.#storage.list(this.#folder)).includes(hex(digest));
  }

  /** Whether some bytes are those of a digest. */
  async isOf(digest: Uint8Array, bytes: Uint8Array): Promise<boolean> {
    return equalBytes(await this.#sha256(bytes), digest);
  }

  /** Keeps a blob whose bytes were checked against the digest. */
  put(digest: Uint8Array, bytes: Uint8Array): Promise<void> {
    return this.#storage.write(this.#path(digest), bytes);
  }

  /** Deletes every blob but these, and what a crash left half written. */
  async keepOnly(digests: readonly Uint8Array[]): Promise<void> {
    const kept = new Set(digests.map(hex));
    for (const name of await this.#storage.list(this.#folder)) {
      if (!kept.has(name)) await this.#storage.remove(`${this.#folder}/${name}`);
    }
  }

  readonly #path = (digest: Uint8Array): string => `${this.#folder}/${hex(digest)}`;
}

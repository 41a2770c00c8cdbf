import { equalBytes } from '@commonweight/proto';
import { TrustError } from '../errors.ts';
import { fromHex, hex } from '../hex.ts';
import { readText, writeText, type Storage } from '../platform/storage.ts';

export interface KeyPinOptions {
  /** The one key to trust: raw 32 bytes of Ed25519. */
  given?: Uint8Array | undefined;
  /** Where the first key met is kept; without it, it is forgotten with the process. */
  storage?: Storage | undefined;
  path?: string;
}

/** The one key whose releases are believed: given by the app, or the first one met (trust on first use). */
export class KeyPin {
  readonly #storage: Storage | undefined;
  readonly #path: string;
  readonly #given: boolean;
  #key: Uint8Array | undefined;
  #saving: Promise<void> = Promise.resolve();

  private constructor(storage: Storage | undefined, path: string, key: Uint8Array | undefined, given: boolean) {
    this.#storage = storage;
    this.#path = path;
    this.#key = key;
    this.#given = given;
  }

  static async open({ given, storage, path = 'trusted-key' }: KeyPinOptions = {}): Promise<KeyPin> {
    if (given !== undefined) {
      if (given.length !== 32)
        throw new TrustError(`trustKey must be 32 raw bytes of an Ed25519 key, not ${given.length}`);
      return new KeyPin(undefined, path, given, true);
    }
    const text = storage === undefined ? undefined : await readText(storage, path);
    if (text === undefined) return new KeyPin(storage, path, undefined, false);
    const key = fromHex(text.trim());
    if (key?.length !== 32)
      throw new TrustError(
        `${storage?.where(path)} does not hold a key; delete it to trust the coordinator's key anew`,
      );
    return new KeyPin(storage, path, key, false);
  }

  get key(): Uint8Array | undefined {
    return this.#key;
  }

  /** Throws where another key is trusted than this one. */
  check(key: Uint8Array): void {
    if (this.#key === undefined || equalBytes(this.#key, key)) return;
    const mend = this.#given
      ? 'pass that key as trustKey'
      : this.#storage === undefined
        ? 'connect again'
        : `delete ${this.#storage.where(this.#path)}`;
    throw new TrustError(
      `the coordinator signs with key ${short(key)}, but ${short(this.#key)} is trusted: ` +
        `somebody else may be answering; if it was set up anew on purpose, ${mend}`,
    );
  }

  /** Trusts a key from now on if none is trusted yet. Only for keys whose signature was verified. */
  pin(key: Uint8Array): void {
    this.check(key);
    if (this.#key !== undefined) return;
    this.#key = new Uint8Array(key);
    if (this.#storage !== undefined) {
      this.#saving = writeText(this.#storage, this.#path, hex(key));
      this.#saving.catch(() => {});
    }
  }

  /** Resolves once the pinned key is on disk. */
  saved(): Promise<void> {
    return this.#saving;
  }
}

const short = (key: Uint8Array): string => `${hex(key).slice(0, 16)}…`;

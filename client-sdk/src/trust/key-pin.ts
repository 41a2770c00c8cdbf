import { equalBytes } from '@commonweight/proto';
import { readIfThere, writeAtomic } from '../cache/atomic-file.ts';
import { TrustError } from '../errors.ts';

/**
 * The one key whose releases are believed: given by the app, or the first one met (trust on first use), which is
 * then kept in a file.
 */
export class KeyPin {
  readonly #file: string | undefined;
  readonly #given: boolean;
  #key: Uint8Array | undefined;
  #saving: Promise<void> = Promise.resolve();

  private constructor(file: string | undefined, key: Uint8Array | undefined, given: boolean) {
    this.#file = file;
    this.#key = key;
    this.#given = given;
  }

  static async open(file?: string, given?: Uint8Array): Promise<KeyPin> {
    if (given !== undefined) {
      if (given.length !== 32)
        throw new TrustError(`trustKey must be 32 raw bytes of an Ed25519 key, not ${given.length}`);
      return new KeyPin(undefined, given, true);
    }
    const text = file === undefined ? undefined : await readIfThere(file);
    if (text === undefined) return new KeyPin(file, undefined, false);
    const key = Buffer.from(Buffer.from(text).toString('latin1').trim(), 'hex');
    if (key.length !== 32)
      throw new TrustError(`${file} does not hold a key; delete it to trust the coordinator's key anew`);
    return new KeyPin(file, new Uint8Array(key), false);
  }

  get key(): Uint8Array | undefined {
    return this.#key;
  }

  /** Throws where another key is trusted than this one. */
  check(key: Uint8Array): void {
    if (this.#key === undefined || equalBytes(this.#key, key)) return;
    const mend = this.#given
      ? 'pass that key as trustKey'
      : this.#file === undefined
        ? 'connect again'
        : `delete ${this.#file}`;
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
    if (this.#file !== undefined) {
      this.#saving = writeAtomic(this.#file, `${Buffer.from(key).toString('hex')}\n`);
      this.#saving.catch(() => {});
    }
  }

  /** Resolves once the pinned key is on disk. */
  saved(): Promise<void> {
    return this.#saving;
  }
}

const short = (key: Uint8Array): string => `${Buffer.from(key).toString('hex').slice(0, 16)}…`;

import { readIfThere, writeAtomic } from '../cache/atomic-file.ts';
import { TrustError } from '../errors.ts';

/** The highest version that was ever offered, so that nobody can bring an old one back. */
export class Ratchet {
  readonly #file: string | undefined;
  #highest: number;
  #saving: Promise<void> = Promise.resolve();

  private constructor(file: string | undefined, highest: number) {
    this.#file = file;
    this.#highest = highest;
  }

  static async open(file?: string): Promise<Ratchet> {
    const text = file === undefined ? undefined : await readIfThere(file);
    const highest = text === undefined ? 0 : Number(Buffer.from(text).toString('latin1'));
    // An empty file would read as 0, and let every old version in.
    if (text?.length === 0 || !Number.isSafeInteger(highest) || highest < 0)
      throw new TrustError(`${file} is damaged; delete it to start anew`);
    return new Ratchet(file, highest);
  }

  /** Takes note of an offered version. Throws where it is lower than one before. */
  raise(model: string, version: number): void {
    if (version < this.#highest) {
      throw new TrustError(
        `version ${version} of '${model}' was offered after version ${this.#highest}; it is not taken`,
      );
    }
    if (version === this.#highest) return;
    this.#highest = version;
    const file = this.#file;
    if (file === undefined) return;
    this.#saving = this.#saving.catch(() => {}).then(() => writeAtomic(file, `${version}\n`));
    this.#saving.catch(() => {});
  }

  /** Resolves once the highest version is on disk. */
  saved(): Promise<void> {
    return this.#saving;
  }
}

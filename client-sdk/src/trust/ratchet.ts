import { TrustError } from '../errors.ts';
import { readText, writeText, type Storage } from '../platform/storage.ts';

/** Where a ratchet is kept; without it, it ends with the process. */
export interface RatchetPlace {
  storage: Storage;
  path: string;
}

/** The highest version that was ever offered, so that nobody can bring an old one back. */
export class Ratchet {
  readonly #place: RatchetPlace | undefined;
  #highest: number;
  #saving: Promise<void> = Promise.resolve();

  private constructor(place: RatchetPlace | undefined, highest: number) {
    this.#place = place;
    this.#highest = highest;
  }

  static async open(place?: RatchetPlace): Promise<Ratchet> {
    const text = place === undefined ? undefined : await readText(place.storage, place.path);
    const highest = text === undefined ? 0 : Number(text);
    // An empty file would read as 0, and let every old version in.
    if (text === '' || !Number.isSafeInteger(highest) || highest < 0)
      throw new TrustError(`${place?.storage.where(place.path)} is damaged; delete it to start anew`);
    return new Ratchet(place, highest);
  }

  get highest(): number {
    return this.#highest;
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
    const place = this.#place;
    if (place === undefined) return;
    this.#saving = this.#saving.catch(() => {}).then(() => writeText(place.storage, place.path, String(version)));
    this.#saving.catch(() => {});
  }

  /** Resolves once the highest version is on disk. */
  saved(): Promise<void> {
    return this.#saving;
  }
}

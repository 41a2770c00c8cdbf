import { TrustError } from '../errors.ts';
import { hex } from '../hex.ts';
import type { Sha256 } from '../platform/platform.ts';
import { readText, writeText } from '../platform/storage.ts';
import type { ChannelRecord } from './channel.ts';
import type { RatchetPlace } from './ratchet.ts';

/** The newest record of a channel that was ever offered, so that nobody can bring an old one back, or two of one revision. */
export class ChannelRatchet {
  readonly #place: RatchetPlace | undefined;
  readonly #sha256: Sha256;
  #revision: number;
  #digest: string;
  #saving: Promise<void> = Promise.resolve();

  private constructor(place: RatchetPlace | undefined, sha256: Sha256, revision: number, digest: string) {
    this.#place = place;
    this.#sha256 = sha256;
    this.#revision = revision;
    this.#digest = digest;
  }

  /** Throws TrustError where what is kept is damaged. */
  static async open(sha256: Sha256, place?: RatchetPlace): Promise<ChannelRatchet> {
    const text = place === undefined ? undefined : await readText(place.storage, place.path);
    if (text === undefined) return new ChannelRatchet(place, sha256, 0, '');
    const [, revision, digest = ''] = /^(\d{1,15}) ([0-9a-f]{64})$/.exec(text) ?? [];
    if (revision === undefined)
      throw new TrustError(`${place?.storage.where(place.path)} is damaged; delete it to start anew`);
    return new ChannelRatchet(place, sha256, Number(revision), digest);
  }

  get revision(): number {
    return this.#revision;
  }

  /** Takes note of a record. Throws TrustError where it is older than one before, or another of the same revision. */
  async raise({ model, channel, revision, bytes }: ChannelRecord): Promise<void> {
    const digest = hex(await this.#sha256(bytes));
    const name = `channel ${channel} of '${model}'`;
    if (revision < this.#revision)
      throw new TrustError(`revision ${revision} of ${name} was offered after ${this.#revision}; it is not taken`);
    if (revision === this.#revision && digest !== this.#digest)
      throw new TrustError(`two records of ${name} have revision ${revision}; the second is not taken`);
    if (revision === this.#revision) return;
    [this.#revision, this.#digest] = [revision, digest];
    const place = this.#place;
    if (place === undefined) return;
    this.#saving = this.#saving
      .catch(() => {})
      .then(() => writeText(place.storage, place.path, `${revision} ${digest}`));
    this.#saving.catch(() => {});
  }

  /** Resolves once the newest revision is on disk. */
  saved(): Promise<void> {
    return this.#saving;
  }
}

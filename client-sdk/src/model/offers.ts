import { equalBytes, type SignedManifest } from '@commonweight/proto';
import { asError } from '../errors.ts';

/** Releases that were heard of and not looked at yet. */
const INBOX_MAX = 16;
/** How long the same refused release is not spoken of again. */
const REFUSED_MS = 60_000;

/** Looks at releases in the order in which they were heard of: verifying takes a moment. */
export class Offers {
  readonly #take: (signed: SignedManifest) => Promise<void>;
  readonly #onError: (error: Error) => void;
  readonly #inbox: SignedManifest[] = [];
  #taking: Promise<void> | undefined;
  #refused: { signed: SignedManifest; untilMs: number } | undefined;

  /** `take` throws where a release must not be believed. */
  constructor(take: (signed: SignedManifest) => Promise<void>, onError: (error: Error) => void) {
    this.#take = take;
    this.#onError = onError;
  }

  hear(signed: SignedManifest): void {
    if (this.#inbox.length >= INBOX_MAX) this.#inbox.shift();
    this.#inbox.push(signed);
    this.#taking ??= this.#takeAll();
  }

  /** Resolves once all that was heard of was looked at. */
  async settled(): Promise<void> {
    await this.#taking;
  }

  async #takeAll(): Promise<void> {
    // In a turn of its own: what was done before its first wait would be taken for under way for ever.
    await Promise.resolve();
    for (let signed = this.#inbox.shift(); signed !== undefined; signed = this.#inbox.shift()) {
      try {
        if (!this.#wasRefused(signed)) await this.#take(signed);
      } catch (error) {
        this.#refused = { signed, untilMs: performance.now() + REFUSED_MS };
        this.#onError(asError(error));
      }
    }
    this.#taking = undefined;
  }

  #wasRefused({ manifest, signature, publicKey }: SignedManifest): boolean {
    if (this.#refused === undefined || performance.now() >= this.#refused.untilMs) return false;
    const { signed } = this.#refused;
    return (
      equalBytes(signed.manifest, manifest) &&
      equalBytes(signed.signature, signature) &&
      equalBytes(signed.publicKey, publicKey)
    );
  }
}

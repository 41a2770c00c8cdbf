import { equalBytes } from '@commonweight/proto';
import { asError } from '../errors.ts';

/** What was heard of and not looked at yet. */
const INBOX_MAX = 16;
/** How long what was refused is not spoken of again. */
const REFUSED_MS = 60_000;

/** Looks at what is signed in the order in which it was heard of: verifying takes a moment. */
export class Offers<T extends { signature: Uint8Array; publicKey: Uint8Array }> {
  readonly #take: (signed: T) => Promise<void>;
  readonly #payloadOf: (signed: T) => Uint8Array;
  readonly #onError: (error: Error) => void;
  readonly #inbox: T[] = [];
  #taking: Promise<void> | undefined;
  #refused: { signed: T; untilMs: number } | undefined;

  /** `take` throws where an offer must not be believed. */
  constructor(
    payloadOf: (signed: T) => Uint8Array,
    take: (signed: T) => Promise<void>,
    onError: (error: Error) => void,
  ) {
    this.#payloadOf = payloadOf;
    this.#take = take;
    this.#onError = onError;
  }

  hear(signed: T): void {
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

  #wasRefused(offered: T): boolean {
    if (this.#refused === undefined || performance.now() >= this.#refused.untilMs) return false;
    const { signed } = this.#refused;
    return (
      equalBytes(this.#payloadOf(signed), this.#payloadOf(offered)) &&
      equalBytes(signed.signature, offered.signature) &&
      equalBytes(signed.publicKey, offered.publicKey)
    );
  }
}

import { ServingError } from './errors.ts';

/** Bytes that may be held at once, over all requests. */
export class ByteBudget {
  readonly #max: number;
  #held = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** Bytes that are taken now. */
  get held(): number {
    return this.#held;
  }

  /** Takes some until the returned function is called. Throws ServingError where too many are taken. */
  take(bytes: number): () => void {
    if (this.#held > 0 && this.#held + bytes > this.#max) {
      throw new ServingError(
        'queue-full',
        `requests of ${this.#held} bytes are under way and at most ${this.#max} are taken at once: try again later`,
      );
    }
    this.#held += bytes;
    return () => {
      this.#held -= bytes;
      bytes = 0;
    };
  }
}

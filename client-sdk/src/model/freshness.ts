import type { TransportError } from '../errors.ts';
import type { ModelEvents } from './events.ts';
import type { Life } from './life.ts';

const STALE_AFTER_MS = 30_000;

/** Whether what serves is known to be the newest: for how long nobody has said anything. */
export class Freshness {
  readonly #life: Life;
  /** The last failure of the link. */
  lastDown: TransportError | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stale: ModelEvents['stale'] | undefined;

  constructor(life: Life) {
    this.#life = life;
  }

  get stale(): ModelEvents['stale'] | undefined {
    return this.#stale;
  }

  hearAlive(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#stale = undefined;
  }

  hearDown(error: TransportError, version: () => number | undefined): void {
    const { closed, emitter, options } = this.#life;
    this.lastDown = error;
    if (!error.passing) emitter.emit('error', error);
    if (this.#timer !== undefined || closed.aborted) return;
    const sinceMs = Date.now();
    this.#timer = setTimeout(() => {
      this.#stale = { version: version(), sinceMs };
      emitter.emit('stale', this.#stale);
    }, options.staleAfterMs ?? STALE_AFTER_MS);
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}

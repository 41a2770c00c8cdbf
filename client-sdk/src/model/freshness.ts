import type { TransportError } from '../errors.ts';
import type { ModelEvents } from './events.ts';
import type { Life } from './life.ts';

const STALE_AFTER_MS = 30_000;

/** `setTimeout` takes no longer times. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Whether what serves is known to be what should: for how long nobody has said anything, and until when the last word holds. */
export class Freshness {
  readonly #life: Life;
  readonly #version: () => number | undefined;
  /** The last failure of the link. */
  lastDown: TransportError | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #expiry: ReturnType<typeof setTimeout> | undefined;
  #silentSinceMs: number | undefined;
  #expiredSinceMs: number | undefined;

  constructor(life: Life, version: () => number | undefined) {
    this.#life = life;
    this.#version = version;
  }

  get stale(): ModelEvents['stale'] | undefined {
    const version = this.#version();
    if (this.#expiredSinceMs !== undefined) return { version, sinceMs: this.#expiredSinceMs, reason: 'expired' };
    if (this.#silentSinceMs !== undefined) return { version, sinceMs: this.#silentSinceMs, reason: 'silence' };
    return undefined;
  }

  hearAlive(): void {
    clearTimeout(this.#silence);
    this.#silence = undefined;
    this.#silentSinceMs = undefined;
  }

  hearDown(error: TransportError): void {
    const { closed, emitter, options } = this.#life;
    this.lastDown = error;
    if (!error.passing) emitter.emit('error', error);
    if (this.#silence !== undefined || closed.aborted) return;
    const sinceMs = Date.now();
    this.#silence = setTimeout(() => {
      this.#silentSinceMs = sinceMs;
      emitter.emit('stale', { version: this.#version(), sinceMs, reason: 'silence' });
    }, options.staleAfterMs ?? STALE_AFTER_MS);
  }

  /** The last word of a channel holds until then. */
  validUntil(expiresMs: number): void {
    clearTimeout(this.#expiry);
    this.#expiredSinceMs = undefined;
    if (this.#life.closed.aborted) return;
    const leftMs = expiresMs - Date.now();
    const next = leftMs > TIMER_MS_MAX ? () => this.validUntil(expiresMs) : () => this.expire(expiresMs);
    this.#expiry = setTimeout(next, Math.min(Math.max(0, leftMs), TIMER_MS_MAX));
  }

  /** The last word of a channel holds no more. */
  expire(expiresMs: number): void {
    if (this.#expiredSinceMs !== undefined) return;
    this.#expiredSinceMs = expiresMs;
    this.#life.emitter.emit('stale', { version: this.#version(), sinceMs: expiresMs, reason: 'expired' });
  }

  close(): void {
    clearTimeout(this.#silence);
    clearTimeout(this.#expiry);
  }
}

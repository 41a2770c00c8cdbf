import { onReturn } from './on-return.ts';

/** What is known of a try that failed; a TransportError says it. */
export interface FailedTry {
  /** Nothing answered at all: no network, or nobody who listens. */
  unreached?: boolean;
  /** When to come back, in the words of who answered; 0 is whenever. */
  retryAfterMs?: number;
}

export interface BackoffOptions {
  baseMs?: number;
  maxMs?: number;
  /** Where nothing answers, and a try costs no server anything. */
  unreachedMaxMs?: number;
  /** A link that held this long starts again from `baseMs` when it breaks. */
  healthyMs?: number;
  /** In [0, 1). */
  random?: () => number;
  nowMs?: () => number;
}

/** A server may ask for this long a wait at most. */
const RETRY_AFTER_MS_MAX = 10 * 60_000;

/**
 * Full jitter: each wait is uniform between 0 and a bound that doubles from `baseMs` up to `maxMs`, or `unreachedMaxMs` where nothing answered.
 * What a server asks for comes before it. Failures of both kinds count together: who comes back after a long time to a server that has too much
 * to do, as all others do then, waits for up to `maxMs` at once.
 */
export class Backoff {
  readonly #baseMs: number;
  readonly #maxMs: number;
  readonly #unreachedMaxMs: number;
  readonly #healthyMs: number;
  readonly #random: () => number;
  readonly #nowMs: () => number;
  #failures = 0;
  #connectedAtMs: number | undefined;

  constructor({
    baseMs = 1000,
    maxMs = 60_000,
    unreachedMaxMs = 6_000,
    healthyMs = 5000,
    random = Math.random,
    nowMs = () => performance.now(),
  }: BackoffOptions = {}) {
    this.#baseMs = baseMs;
    this.#maxMs = maxMs;
    this.#unreachedMaxMs = Math.min(unreachedMaxMs, maxMs);
    this.#healthyMs = healthyMs;
    this.#random = random;
    this.#nowMs = nowMs;
  }

  /** Notes that the link works. The bound falls back only once it has held for `healthyMs`. */
  connected(): void {
    this.#connectedAtMs ??= this.#nowMs();
  }

  /** Notes a failure and says how long to wait before the next try. */
  nextMs({ unreached = false, retryAfterMs = 0 }: FailedTry = {}): number {
    if (this.#connectedAtMs !== undefined && this.#nowMs() - this.#connectedAtMs >= this.#healthyMs) this.#failures = 0;
    this.#connectedAtMs = undefined;
    const maxMs = unreached ? this.#unreachedMaxMs : this.#maxMs;
    const boundMs = Math.min(maxMs, this.#baseMs * 2 ** this.#failures);
    this.#failures += 1;
    return Math.min(retryAfterMs, RETRY_AFTER_MS_MAX) + this.#random() * boundMs;
  }

  /** Notes a failure and waits; where nothing answered, only until the device is back on a network or the page is looked at. */
  async wait(failed: FailedTry, signal?: AbortSignal): Promise<void> {
    const waitMs = this.nextMs(failed);
    if (failed.unreached !== true) return sleep(waitMs, signal);
    const returned = new AbortController();
    const stop = onReturn(() => returned.abort());
    const sinceMs = this.#nowMs();
    await sleep(waitMs, signal === undefined ? returned.signal : AbortSignal.any([signal, returned.signal]));
    stop();
    // Others come back to the same network at the same moment.
    const leftMs = waitMs - (this.#nowMs() - sinceMs);
    if (returned.signal.aborted && leftMs > 0) await sleep(this.#random() * Math.min(this.#baseMs, leftMs), signal);
  }
}

/** Waits, or returns early once `signal` aborts. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}

/** Waits for some work, and no longer than that. */
export async function within(ms: number, work: Promise<unknown> | undefined): Promise<void> {
  const over = new AbortController();
  await Promise.race([work?.catch(() => {}), sleep(ms, over.signal)]);
  over.abort();
}

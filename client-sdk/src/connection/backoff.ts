export interface BackoffOptions {
  baseMs?: number;
  maxMs?: number;
  /** A link that held this long starts again from `baseMs` when it breaks. */
  healthyMs?: number;
  /** In [0, 1). */
  random?: () => number;
  nowMs?: () => number;
}

/** Full jitter: each wait is uniform between 0 and a bound that doubles from `baseMs` up to `maxMs`. */
export class Backoff {
  readonly #baseMs: number;
  readonly #maxMs: number;
  readonly #healthyMs: number;
  readonly #random: () => number;
  readonly #nowMs: () => number;
  #failures = 0;
  #connectedAtMs: number | undefined;

  constructor({
    baseMs = 1000,
    maxMs = 60_000,
    healthyMs = 5000,
    random = Math.random,
    nowMs = () => performance.now(),
  }: BackoffOptions = {}) {
    this.#baseMs = baseMs;
    this.#maxMs = maxMs;
    this.#healthyMs = healthyMs;
    this.#random = random;
    this.#nowMs = nowMs;
  }

  /** Notes that the link works. The bound falls back only once it has held for `healthyMs`. */
  connected(): void {
    this.#connectedAtMs ??= this.#nowMs();
  }

  /** Notes a failure and says how long to wait before the next try. */
  nextMs(): number {
    if (this.#connectedAtMs !== undefined && this.#nowMs() - this.#connectedAtMs >= this.#healthyMs) this.#failures = 0;
    this.#connectedAtMs = undefined;
    const boundMs = Math.min(this.#maxMs, this.#baseMs * 2 ** this.#failures);
    this.#failures += 1;
    return this.#random() * boundMs;
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

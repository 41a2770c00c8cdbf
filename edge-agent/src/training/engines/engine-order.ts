import type { EngineName } from '../engine.ts';

/** After a first failure; each further one doubles it. */
const ASIDE_MS = 10 * 60_000;
const ASIDE_MS_MAX = 24 * 3_600_000;

/** Which engine trains next: the first that has not failed lately. */
export class EngineOrder {
  readonly #names: readonly EngineName[];
  readonly #aside = new Map<EngineName, { failures: number; untilMs: number }>();

  constructor(names: readonly [EngineName, ...EngineName[]]) {
    this.#names = names;
  }

  next(nowMs: number): EngineName {
    const free = this.#names.find((name) => (this.#aside.get(name)?.untilMs ?? 0) <= nowMs);
    if (free !== undefined) return free;
    // All have failed: the one whose time is over first.
    return this.#names.reduce((best, name) => (this.#untilMs(name) < this.#untilMs(best) ? name : best));
  }

  /** Sets an engine aside, and says for how long. */
  failed(name: EngineName, nowMs: number): number {
    const failures = (this.#aside.get(name)?.failures ?? 0) + 1;
    const asideMs = Math.min(ASIDE_MS_MAX, ASIDE_MS * 2 ** (failures - 1));
    this.#aside.set(name, { failures, untilMs: nowMs + asideMs });
    return asideMs;
  }

  worked(name: EngineName): void {
    this.#aside.delete(name);
  }

  #untilMs(name: EngineName): number {
    return this.#aside.get(name)?.untilMs ?? 0;
  }
}

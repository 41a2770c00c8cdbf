import type { Clock } from '../../coordinator/src/clock.ts';

/** A clock that goes when it is told to. */
export class ToldClock implements Clock {
  #nowMs: number;
  readonly #works = new Set<() => void>();

  constructor(startMs = 0) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  every(_ms: number, work: () => void): () => void {
    this.#works.add(work);
    return () => this.#works.delete(work);
  }

  /** It is so late now, and whoever works again and again does so once. */
  goTo(ms: number): void {
    this.#nowMs = ms;
    for (const work of [...this.#works]) work();
  }

  /** The same after a time; resolves once what follows from it at once has happened. */
  async pass(ms: number): Promise<void> {
    this.goTo(this.#nowMs + ms);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

import type { Clock } from '../../coordinator/src/clock.ts';

interface Due {
  atMs: number;
  order: number;
  work: () => void;
  cancelled: boolean;
}

/** 2026-01-01: any instant will do. */
const START_MS = 1_767_225_600_000;

/** Time that goes on when it is told to. What is due at one instant happens in the order in which it was asked for. */
export class VirtualTime implements Clock {
  #nowMs = 0;
  #order = 0;
  /** A binary heap by instant, then order. */
  readonly #heap: Due[] = [];

  /** Milliseconds since the simulation began. */
  get elapsedMs(): number {
    return this.#nowMs;
  }

  nowMs(): number {
    return Math.floor(START_MS + this.#nowMs);
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  /** Calls once, unless the returned function is called before. */
  after(ms: number, work: () => void): () => void {
    const due: Due = { atMs: this.#nowMs + Math.max(0, ms), order: this.#order++, work, cancelled: false };
    this.#push(due);
    return () => (due.cancelled = true);
  }

  every(ms: number, work: () => void): () => void {
    let stop = (): void => {};
    const again = (): void => {
      stop = this.after(ms, again);
      work();
    };
    stop = this.after(ms, again);
    return () => stop();
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Does what is due next and lets every promise settle; false when the end is reached first. */
  async next(endMs: number): Promise<boolean> {
    for (;;) {
      const first = this.#heap[0];
      if (first === undefined || first.atMs > endMs) return false;
      this.#pop();
      if (first.cancelled) continue;
      this.#nowMs = first.atMs;
      first.work();
      // All microtasks run before this resolves.
      await new Promise((resolve) => setImmediate(resolve));
      return true;
    }
  }

  #push(due: Due): void {
    const heap = this.#heap;
    let i = heap.push(due) - 1;
    for (let parent = (i - 1) >> 1; i > 0 && before(due, heap[parent]!); parent = (i - 1) >> 1) {
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = due;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}

const before = (a: Due, b: Due): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);

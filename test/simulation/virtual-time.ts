import type { RandomStream } from '@commonweight/core';
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
  /** What the date is off by. */
  #dateMs = 0;
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

  /** Somebody sets the date that agents and apps have; nothing else of time changes. */
  setDate(offMs: number): void {
    this.#dateMs = offMs;
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

  /**
   * Puts this time and a seeded chance in the place of the process's own, for code that is not given any: back-off, retries, timeouts.
   * The returned function puts the process's own back.
   */
  takeOver(random: RandomStream): () => void {
    const timers = {
      setTimeout: (work: () => void, ms = 0) => this.after(ms, work),
      clearTimeout: (stop?: () => void) => stop?.(),
      setInterval: (work: () => void, ms: number) => this.every(ms, work),
      clearInterval: (stop?: () => void) => stop?.(),
    };
    const undo = [
      replace(globalThis, timers),
      replace(Math, { random: () => random.uniform() }),
      replace(Date, { now: () => this.nowMs() + this.#dateMs }),
      replace(performance, { now: () => this.monotonicMs() }),
    ];
    return () => {
      for (const putBack of undo) putBack();
    };
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
      await settled();
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

/** Resolves once every promise that can settle has: Node runs what is due at the next tick when no microtask is left. */
const settled = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));

/** Replaces properties; gives what puts back those that were there. */
function replace(target: object, properties: Record<string, unknown>): () => void {
  const before = Object.keys(properties).map((key) => [key, Object.getOwnPropertyDescriptor(target, key)] as const);
  for (const [key, value] of Object.entries(properties)) {
    Object.defineProperty(target, key, { value, configurable: true, writable: true });
  }
  return () => {
    for (const [key, descriptor] of before) {
      if (descriptor === undefined) Reflect.deleteProperty(target, key);
      else Object.defineProperty(target, key, descriptor);
    }
  };
}

const before = (a: Due, b: Due): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);

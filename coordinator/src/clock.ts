/** Time, as the coordinator is given it: the machine's own, or a simulator's. */
export interface Clock {
  /** The machine's date, in milliseconds since 1970: for people to read, and not to wait for. */
  nowMs(): number;
  /** Milliseconds since some instant; never goes back, whatever is done to the machine's date. */
  monotonicMs(): number;
  /** Calls again and again until the returned function is called. */
  every(ms: number, work: () => void): () => void;
}

export const systemClock: Clock = {
  nowMs: Date.now,
  monotonicMs: () => performance.now(),
  every: (ms, work) => {
    const timer = setInterval(work, ms);
    return () => clearInterval(timer);
  },
};

/**
 * The date at which this is called, in milliseconds since 1970, and from there on at the pace of the monotonic clock: what is due after a time
 * is due then, also where somebody sets the date of the machine by hours or years.
 */
export function evenTime(clock: Clock): () => number {
  const originMs = clock.nowMs() - clock.monotonicMs();
  return () => Math.floor(originMs + clock.monotonicMs());
}

/** Resolves after a time. */
export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const stop = clock.every(ms, () => {
      stop();
      resolve();
    });
  });
}

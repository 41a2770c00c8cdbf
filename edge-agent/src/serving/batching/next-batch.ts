/** Which of the waiting requests run next, together. Pure: the batcher does what this says. */

/** What has to be known of a request that waits. */
export interface Waiting {
  /** Length of its first dimension. */
  rows: number;
  /** Requests with equal keys may run as one; undefined runs alone. */
  key: string | undefined;
  sinceMs: number;
}

export interface BatchPolicy {
  /** Rows of one run; a request with more runs alone. */
  batchMax: number;
  /** How long a request may wait for others to join it. */
  batchDelayMs: number;
}

/** Run these now, or ask again after `waitMs`. */
export type Decision<T> = { run: T[] } | { waitMs: number };

/**
 * The first group, in order of arrival, that is full or has waited long enough. Within a group nobody overtakes.
 * The queue has at least one request.
 */
export function nextBatch<T extends Waiting>(queue: readonly T[], policy: BatchPolicy, nowMs: number): Decision<T> {
  const seen = new Set<string>();
  let waitMs = Infinity;
  for (const first of queue) {
    const { key } = first;
    if (key === undefined) return { run: [first] };
    if (seen.has(key)) continue;
    seen.add(key);
    const { run, isFull } = groupOf(key, queue, policy.batchMax);
    const leftMs = first.sinceMs + policy.batchDelayMs - nowMs;
    if (isFull || leftMs <= 0) return { run };
    waitMs = Math.min(waitMs, leftMs);
  }
  return { waitMs };
}

function groupOf<T extends Waiting>(key: string, queue: readonly T[], rowsMax: number): { run: T[]; isFull: boolean } {
  const run: T[] = [];
  let rows = 0;
  for (const one of queue) {
    if (one.key !== key) continue;
    if (run.length > 0 && rows + one.rows > rowsMax) return { run, isFull: true };
    run.push(one);
    rows += one.rows;
    if (rows >= rowsMax) return { run, isFull: true };
  }
  return { run, isFull: false };
}

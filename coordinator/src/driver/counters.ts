/** What a task counted over its life; kept with its state. */
export interface Counters {
  updatesAccepted: number;
  updatesRejected: number;
  rejectedByReason: Record<string, number>;
  bytesUp: number;
  bytesDown: number;
  roundsAbandoned: number;
  /** Weighted means of what agents reported in the last round. */
  metrics: Record<string, number>;
}

export const noCounts = (): Counters => ({
  updatesAccepted: 0,
  updatesRejected: 0,
  rejectedByReason: {},
  bytesUp: 0,
  bytesDown: 0,
  roundsAbandoned: 0,
  metrics: {},
});

/** Weighted means of the metrics that agents report: a running sum each, so memory does not grow with the cohort. */
export class MetricMeans {
  readonly #sums = new Map<string, { sum: number; weight: number }>();

  add(metrics: Readonly<Record<string, number>>, weight: number): void {
    for (const [name, value] of Object.entries(metrics).slice(0, METRICS_MAX)) {
      if (!Number.isFinite(value) || !/^[A-Za-z0-9_.-]{1,64}$/.test(name)) continue;
      const before = this.#sums.get(name) ?? { sum: 0, weight: 0 };
      if (this.#sums.size >= METRICS_MAX && before.weight === 0) continue;
      this.#sums.set(name, { sum: before.sum + value * weight, weight: before.weight + weight });
    }
  }

  means(): Record<string, number> {
    return Object.fromEntries([...this.#sums].map(([name, { sum, weight }]) => [name, sum / weight]));
  }
}

const METRICS_MAX = 32;

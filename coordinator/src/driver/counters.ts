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
  /** How long rounds take; undefined before the first. */
  roundMs?: number;
  /** Lengths of the steps of the newest versions, where a gate asks for them. */
  norms?: readonly number[];
  candidatesRefused?: number;
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

/** Numbers that an agent reports, by name. */
export type Metrics = Readonly<Record<string, number>>;

const METRICS_MAX = 32;

/** What of an agent's report is kept: finite numbers with proper names, a bounded number of them. */
export const properMetrics = (metrics: Metrics): Metrics =>
  Object.fromEntries(
    Object.entries(metrics)
      .slice(0, METRICS_MAX)
      .filter(([name, value]) => Number.isFinite(value) && /^[A-Za-z0-9_.-]{1,64}$/.test(name)),
  );

/** Weighted means in the order that is given; names beyond a bound are left out. */
export function metricMeans(reports: readonly { weight: number; metrics: Metrics }[]): Record<string, number> {
  const sums = new Map<string, { sum: number; weight: number }>();
  for (const { weight, metrics } of reports) {
    for (const [name, value] of Object.entries(metrics)) {
      const before = sums.get(name);
      if (before === undefined && sums.size >= METRICS_MAX) continue;
      sums.set(name, { sum: (before?.sum ?? 0) + value * weight, weight: (before?.weight ?? 0) + weight });
    }
  }
  return Object.fromEntries([...sums].map(([name, { sum, weight }]) => [name, sum / weight]));
}

/** The median and the 99th percentile of what took so long; nothing where there are no times. */
export function quantilesOf(what: string, valuesMs: readonly number[]): Record<string, number> {
  if (valuesMs.length === 0) return {};
  return { [`${what}_p50_ms`]: quantile(valuesMs, 0.5), [`${what}_p99_ms`]: quantile(valuesMs, 0.99) };
}

/** The value below which a share of them lies; NaN where there are none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}

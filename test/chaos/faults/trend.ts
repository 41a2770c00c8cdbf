export type Point = readonly [at: number, value: number];

export interface Trend {
  /** The median of the slopes of all pairs. */
  slope: number;
  /** With 97.5 % confidence the slope is not below this; -Infinity for too few points. */
  least: number;
}

/**
 * The trend of what is measured again and again, with noise and a step here and there: Sen's slope and the lower end of its interval by
 * Kendall's statistic (Sen, Estimates of the regression coefficient based on Kendall's tau, 1968).
 */
export function trendOf(points: readonly Point[]): Trend {
  const slopes = points
    .flatMap(([x, y], i) => points.slice(i + 1).map(([x2, y2]) => (y2 - y) / (x2 - x)))
    .filter((slope) => Number.isFinite(slope))
    .toSorted((a, b) => a - b);
  if (slopes.length === 0) return { slope: 0, least: -Infinity };
  const middle = (slopes[(slopes.length - 1) >> 1]! + slopes[slopes.length >> 1]!) / 2;
  const n = points.length;
  const deviation = Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18);
  const rank = Math.floor((slopes.length - 1.96 * deviation) / 2);
  return { slope: middle, least: rank < 0 ? -Infinity : slopes[rank]! };
}

/** The least of each stretch of so much time: what was needed for a moment only is not in it. */
export function leastOfEach(points: readonly Point[], stretch: number): Point[] {
  const stretches = Map.groupBy(points, ([at]) => Math.floor(at / stretch));
  return [...stretches.values()].map((those) => those.reduce((least, each) => (each[1] < least[1] ? each : least)));
}

/** How values lie: their number, sum and sum of squares. Spreads of the same thing add up. */
export interface Spread {
  count: number;
  sum: number;
  squares: number;
}

export const NO_SPREAD: Spread = { count: 0, sum: 0, squares: 0 };

export const spreadOf = (values: readonly number[]): Spread => values.reduce(withValue, NO_SPREAD);

export const withValue = ({ count, sum, squares }: Spread, value: number): Spread => ({
  count: count + 1,
  sum: sum + value,
  squares: squares + value * value,
});

export const addedSpreads = (a: Spread, b: Spread): Spread => ({
  count: a.count + b.count,
  sum: a.sum + b.sum,
  squares: a.squares + b.squares,
});

/** The mean; NaN of no values. */
export const meanOf = ({ count, sum }: Spread): number => sum / count;

/** How far apart two means are, and how far apart they could well be by chance: one standard error (Welch). */
export function difference(a: Spread, b: Spread): { mean: number; error: number } {
  const mean = meanOf(a) - meanOf(b);
  return { mean, error: Math.sqrt(varianceOf(a) / a.count + varianceOf(b) / b.count) };
}

/** Of a sample; 0 of less than two values, of which a share may count. */
function varianceOf(spread: Spread): number {
  const { count, squares } = spread;
  if (count < 2) return 0;
  // Rounding may leave less than nothing.
  return Math.max(0, (squares - count * meanOf(spread) ** 2) / (count - 1));
}

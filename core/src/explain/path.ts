import { ConfigError } from '../errors.ts';

/** How an output is traced back to its input. */
export type AttributionMethod = 'integrated-gradients' | 'gradient-x-input';

export const attributionMethods: readonly AttributionMethod[] = ['integrated-gradients', 'gradient-x-input'];

export interface PathOptions {
  method?: AttributionMethod;
  /** Points at which integrated gradients take the gradient. */
  steps?: number;
}

export const STEPS = 32;
export const STEPS_MAX = 512;

/** A point between the baseline (0) and the input (1), and how much the gradient there counts. */
export interface PathPoint {
  position: number;
  share: number;
}

/**
 * Where the gradient is taken. Integrated gradients average it over the straight line from the baseline to the input (Sundararajan, Taly and
 * Yan 2017, equation 1), here by the Gauss-Legendre rule; gradient x input takes it at the input alone. Throws ConfigError.
 */
export function pathOf({ method = 'integrated-gradients', steps = STEPS }: PathOptions = {}): PathPoint[] {
  if (!attributionMethods.includes(method)) {
    throw new ConfigError(`method must be one of ${attributionMethods.join(', ')}`, 'method');
  }
  if (!Number.isInteger(steps) || steps < 1 || steps > STEPS_MAX) {
    throw new ConfigError(`steps must be a whole number from 1 to ${STEPS_MAX}`, 'steps');
  }
  return method === 'gradient-x-input' ? [{ position: 1, share: 1 }] : gaussLegendre(steps);
}

/** Points and weights that integrate polynomials up to degree 2n - 1 over [0, 1] exactly (Abramowitz and Stegun, 25.4.30). */
export function gaussLegendre(n: number): PathPoint[] {
  return Array.from({ length: n }, (_, index) => {
    // Newton's method from an estimate that is near enough for any n (Abramowitz and Stegun, 22.16.6).
    let x = Math.cos((Math.PI * (n - index - 0.25)) / (n + 0.5));
    for (let turn = 0; turn < 100; turn++) {
      const { value, slope } = legendre(n, x);
      const move = value / slope;
      x -= move;
      if (Math.abs(move) < 1e-15) break;
    }
    const { slope } = legendre(n, x);
    return { position: (1 + x) / 2, share: 1 / ((1 - x * x) * slope * slope) };
  });
}

/** The Legendre polynomial of degree n and its derivative, by the recurrence. */
function legendre(n: number, x: number): { value: number; slope: number } {
  let [before, value] = [1, x];
  for (let degree = 2; degree <= n; degree++) {
    [before, value] = [value, ((2 * degree - 1) * x * value - (degree - 1) * before) / degree];
  }
  return { value, slope: (n * (x * value - before)) / (x * x - 1) };
}

/**
 * How a version is rounded so that it travels as a step from the one before. What rounding leaves is carried into the next version, so that
 * nothing of what was learned is lost in the long run. Source: Tang et al. 2019, "DoubleSqueeze: Parallel Stochastic Gradient Descent with
 * Double-Pass Error-Compensated Compression", the server's pass.
 */
import { thresholdOf } from './largest.ts';
import type { Step } from './step.ts';

/** How versions travel: whole, or as steps whose numbers mostly have eight bits at most, or four. */
export type DownlinkName = 'float32' | 'mxint8' | 'mxint4';

export const downlinkNames: readonly DownlinkName[] = ['float32', 'mxint8', 'mxint4'];

/**
 * There is one power of two for all weights, and not one a block as in updates: all are rounded alike then, and most numbers are small, which
 * the entropy code makes use of. It is chosen so that the change which one in a hundred is larger than has about a number of so many bits. Larger ones get
 * the numbers that they need: some parameters, such as running variances, change a thousand times as much as the rest, and all others would stand still.
 */
const HUNDREDTH_BITS = { mxint8: 4, mxint4: 0 };

const NUMBER_MAX = 2 ** 30 - 1;
/** Finer steps would not change a float32. */
const EXPONENT_MIN = -149;
/** Of the mantissa of √2: from it on the next power of two is nearer. */
const ROOT_MANTISSA = 0x3504f3;

/** A version that is a step from its base. */
export interface RoundedVersion {
  weights: Float32Array;
  /** What was wanted besides. */
  remainder: Float32Array;
  step: Step;
}

/**
 * The version nearest to what is wanted, with what was left before, that is a step from its base. Undefined where what is wanted is not finite.
 * All in float64 and in one order, so that the same updates make the same bytes everywhere.
 */
export function roundedVersion(
  base: Float32Array,
  wanted: Float32Array,
  remainder: Float32Array | undefined,
  downlink: Exclude<DownlinkName, 'float32'>,
): RoundedVersion | undefined {
  const { length } = base;
  const changes = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const change = (wanted[i] ?? 0) + (remainder === undefined ? 0 : (remainder[i] ?? 0)) - (base[i] ?? 0);
    if (!Number.isFinite(change)) return undefined;
    changes[i] = change;
  }
  const exponent = exponentFor(changes, HUNDREDTH_BITS[downlink]);
  const size = 2 ** exponent;
  const perUnit = 2 ** -exponent;
  const numbers = new Int32Array(length);
  const weights = new Float32Array(length);
  const left = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const weight = base[i] ?? 0;
    const goal = (wanted[i] ?? 0) + (remainder === undefined ? 0 : (remainder[i] ?? 0));
    const number = Math.max(-NUMBER_MAX, Math.min(NUMBER_MAX, toEven((goal - weight) * perUnit)));
    const rounded = Math.fround(weight + number * size);
    numbers[i] = number;
    weights[i] = rounded;
    left[i] = goal - rounded;
  }
  return { weights, remainder: left, step: { exponent, numbers } };
}

/** A version as it is published: with the step from its base where it is rounded to one. Nothing of what was left before is lost either way. */
export function publishedVersion(
  { weights, remainder }: { weights: Float32Array; remainder?: Float32Array | undefined },
  wanted: Float32Array,
  downlink: DownlinkName,
): RoundedVersion | { weights: Float32Array; remainder?: undefined; step?: undefined } {
  const rounded = downlink === 'float32' ? undefined : roundedVersion(weights, wanted, remainder, downlink);
  if (rounded !== undefined) return rounded;
  return { weights: remainder === undefined ? wanted : wanted.map((value, i) => value + (remainder[i] ?? 0)) };
}

/** Of the power of two nearest to the hundredth largest of the changes that are not 0, over 2^numberBits. */
function exponentFor(changes: Float32Array, numberBits: number): number {
  let changed = 0;
  for (let i = 0; i < changes.length; i++) if (changes[i] !== 0) changed++;
  if (changed === 0) return 0;
  const { bits } = thresholdOf(changes, Math.ceil(changed / 100));
  // As float32: logarithms are not the same everywhere in their last bit.
  const nearest = (bits >>> 23) - 127 + ((bits & 0x7fffff) >= ROOT_MANTISSA ? 1 : 0);
  return Math.max(EXPONENT_MIN, nearest - numberBits);
}

/** 1.5 × 2^52: adding and taking it away rounds a float64 to the nearest integer, ties to even. */
const MAGIC = 1.5 * 2 ** 52;
const toEven = (value: number): number => value + MAGIC - MAGIC;

import { ConfigError } from '../errors.ts';
import type { MagnitudeRange } from './magnitude-bins.ts';

/** What agents count of their data. */
export interface StatisticsPlan extends MagnitudeRange {
  /** Each input by itself, or all of them together. */
  features: 'each' | 'all';
  /** Labels from 0 to below this are counted one by one, others together. */
  classes: number;
}

/** What is counted when nothing is said, of a model with so many outputs. */
export const statisticsDefaults = { features: 'each', low: -16, high: 16, precisionBits: 3 } as const;

const KEYS = ['features', 'classes', 'low', 'high', 'precisionBits'];
const EXPONENT_MAX = 60;
const CLASSES_MAX = 100_000;

/** Checks a plan from JSON; `classes` is taken where the plan has none. Throws ConfigError naming the key. */
export function parseStatisticsPlan(value: unknown, classes: number): StatisticsPlan {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ConfigError('statistics must be an object', 'statistics');
  const unknown = Object.keys(value).find((key) => !KEYS.includes(key));
  if (unknown !== undefined)
    throw new ConfigError(
      `statistics.${unknown} is not known: the keys are ${KEYS.join(', ')}`,
      `statistics.${unknown}`,
    );
  const plan = { classes, ...statisticsDefaults, ...value } as Record<string, unknown>;
  const { features } = plan;
  if (features !== 'each' && features !== 'all')
    throw new ConfigError('statistics.features must be each or all', 'statistics.features');
  const whole = (key: string, min: number, max: number): number => {
    const found = plan[key];
    if (typeof found === 'number' && Number.isInteger(found) && found >= min && found <= max) return found;
    throw new ConfigError(`statistics.${key} must be a whole number from ${min} to ${max}`, `statistics.${key}`);
  };
  const low = whole('low', -EXPONENT_MAX, EXPONENT_MAX - 1);
  return {
    features,
    low,
    high: whole('high', low + 1, EXPONENT_MAX),
    precisionBits: whole('precisionBits', 0, 10),
    classes: whole('classes', 0, CLASSES_MAX),
  };
}

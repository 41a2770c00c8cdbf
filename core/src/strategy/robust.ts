import type { RobustRule } from '../aggregation/robust/updates.ts';
import { ConfigError } from '../errors.ts';
import { fedAvg } from './fed-avg.ts';
import type { Strategy } from './strategy.ts';

/** What all strategies with a robust rule take. */
export interface RobustOptions {
  serverLearningRate?: number;
}

/** Updates that a rule can take where only its time grows with them. */
const UPDATES_MAX = 10_000;
/** Updates of which a rule compares all pairs. */
export const PAIRED_UPDATES_MAX = 1000;

/** A strategy whose rule gives every update one vote: how many examples an agent has is only what it claims. */
export function robust(
  name: string,
  rule: RobustRule,
  { serverLearningRate = 1 }: RobustOptions,
  {
    updatesMin = 1,
    updatesMax = UPDATES_MAX,
    needsRoot = false,
  }: { updatesMin?: number; updatesMax?: number; needsRoot?: boolean } = {},
): Strategy {
  const needs = needsRoot ? { needsRoot } : {};
  return {
    ...fedAvg({ serverLearningRate }),
    name,
    weigh: () => 1,
    robust: { rule, updatesMin, updatesMax, ...needs },
  };
}

/** Throws ConfigError where an option of a strategy is not a whole number in its range. */
export function requireWhole(strategy: string, key: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new ConfigError(
    `strategy.${key} is ${value}: give ${strategy} a whole number from ${min} to ${max}`,
    `strategy.${key}`,
  );
}

/** Throws ConfigError where an option of a strategy is not above zero. */
export function requirePositive(strategy: string, key: string, value: number | undefined): void {
  if (value === undefined || value > 0) return;
  throw new ConfigError(`strategy.${key} is ${value}: give ${strategy} a number above 0`, `strategy.${key}`);
}

/** Throws ConfigError where an option of a strategy is not a share of a whole. */
export function requireShare(strategy: string, key: string, value: number): void {
  if (value >= 0 && value <= 1) return;
  throw new ConfigError(`strategy.${key} is ${value}: give ${strategy} a number from 0 to 1`, `strategy.${key}`);
}

import { ConfigError } from '../errors.ts';
import { localMethodOf } from './local-methods.ts';
import type { Strategy } from './strategy.ts';

/** How a task works without rounds: updates go into a buffer, whichever version they were trained on. */
export interface Asynchronous {
  /** Updates that make a version (K). */
  bufferSize: number;
  /** Versions that an update may be behind. */
  stalenessMax: number;
  /** Exponent a of the polynomial discount (1 + s)^-a; 0 is none. */
  exponent: number;
  /** Instead of the polynomial: up to `hingeAfter` versions there is no discount, then it is 1 / (1 + `hingeSlope`·(s - `hingeAfter`)). */
  hingeAfter?: number;
  hingeSlope?: number;
}

/** What an asynchronous task has when nothing is said. */
export const asynchronousDefaults: Asynchronous = { bufferSize: 10, stalenessMax: 20, exponent: 0.5 };

/** An update that is not behind counts this much: the sum takes whole numbers, so discounts are multiples of 1 / 4096. */
export const FRESH_WEIGHT: number = 4096;
/** Updates that a buffer has room for, far above its size: with several coordinators some come while it is being closed. */
export const BUFFERED_UPDATES_MAX: number = 2 ** 20;

const KEYS: readonly (keyof Asynchronous)[] = ['bufferSize', 'stalenessMax', 'exponent', 'hingeAfter', 'hingeSlope'];

/** Checks the options of asynchronous work. Throws ConfigError naming the key, behind `path`. */
export function parseAsynchronous(given: object, path: string): Asynchronous {
  const options = given as Readonly<Record<string, unknown>>;
  const unknown = Object.keys(options).find((key) => !KEYS.some((known) => known === key));
  if (unknown !== undefined) {
    throw new ConfigError(`${path}.${unknown} is not known: the keys are ${KEYS.join(', ')}`, `${path}.${unknown}`);
  }
  const number = (key: keyof Asynchronous, what: string, isRight: (value: number) => boolean): number | undefined => {
    const value = options[key];
    if (value === undefined || (typeof value === 'number' && isRight(value))) return value;
    throw new ConfigError(`${path}.${key} is ${JSON.stringify(value)}: give ${what}`, `${path}.${key}`);
  };
  const after = number('hingeAfter', 'versions, 0 or more', (value) => value >= 0 && value <= 1e6);
  const slope = number('hingeSlope', 'a number above 0', (value) => value > 0 && value <= 1e6);
  if (after === undefined && slope !== undefined) {
    throw new ConfigError(`${path}.hingeSlope goes with hingeAfter: give both`, `${path}.hingeAfter`);
  }
  if (after !== undefined && options['exponent'] !== undefined) {
    throw new ConfigError(
      `${path}.exponent is of the polynomial discount and hingeAfter of the other: give one of them`,
      `${path}.exponent`,
    );
  }
  const { bufferSize, stalenessMax, exponent } = asynchronousDefaults;
  const isWhole = (least: number, most: number) => (value: number) =>
    Number.isInteger(value) && value >= least && value <= most;
  return {
    bufferSize: number('bufferSize', 'a whole number from 1 to 100000', isWhole(1, 100_000)) ?? bufferSize,
    stalenessMax:
      number('stalenessMax', 'a whole number of versions from 0 to 1000000', isWhole(0, 1e6)) ?? stalenessMax,
    exponent: number('exponent', 'a number from 0 to 10', (value) => value >= 0 && value <= 10) ?? exponent,
    ...(after === undefined ? {} : { hingeAfter: after, hingeSlope: slope ?? 1 }),
  };
}

/**
 * How much an update counts that is `staleness` versions behind, from 0 to 1. Source: Xie, Koyejo, Gupta 2019, "Asynchronous Federated
 * Optimization", section 5.2 (constant, polynomial, hinge).
 */
export function stalenessDiscount(policy: Asynchronous, staleness: number): number {
  const { exponent, hingeAfter: after, hingeSlope: slope } = policy;
  if (after === undefined) return (1 + staleness) ** -exponent;
  return staleness <= after ? 1 : 1 / (1 + (slope ?? 1) * (staleness - after));
}

/**
 * A strategy over buffered updates: each counts alike but for its staleness, and the delta that `strategy` gets is
 * Σ discount·Δ / K, so that a buffer of old updates moves the model less. Throws ConfigError where updates carry more than their deltas.
 */
export function asynchronously(strategy: Strategy, policy: Asynchronous): Strategy {
  return {
    ...strategy,
    asynchronous: policy,
    instruct: (plan) => {
      const instructed = strategy.instruct(plan);
      const { shape } = localMethodOf(instructed);
      if (shape.vectors > 1 || shape.numbersMax.length > 0) {
        throw new ConfigError(
          `${strategy.name} has a half on the agent that belongs to one round: it cannot work asynchronously`,
          'strategy',
        );
      }
      return instructed;
    },
    weigh: (_examples, _weightMax, staleness = 0) =>
      Math.max(1, Math.round(FRESH_WEIGHT * stalenessDiscount(policy, staleness))),
    improve: (base, delta, memory, round) => {
      const mean = round.weight / (FRESH_WEIGHT * round.updates);
      return strategy.improve(base, mean === 1 ? delta : delta.map((value) => value * mean), memory, round);
    },
  };
}

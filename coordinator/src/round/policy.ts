import {
  ConfigError,
  encodings,
  parsePlan,
  strategyFrom,
  type EncodingName,
  type Strategy,
  type TrainingPlan,
} from '@commonweight/core';
import { isName } from '@commonweight/proto';
import type { RoundPolicy } from './round.ts';

/** A task as the engineer configures it. */
export interface TaskConfig {
  model: string;
  strategy: { name: string } & Record<string, number | string>;
  plan: TrainingPlan;
  encoding: EncodingName;
  cohort: { min: number; max: number };
  /** Milliseconds that a round waits for updates. */
  collectMs: number;
  /** Milliseconds between two rounds. */
  pauseMs: number;
  /** Rounds to publish; 0 is for ever. */
  rounds: number;
  /** Cap on the weight of one update. */
  weightMax: number;
  /** Values of an update above 2^this are refused. */
  valueMaxExponent: number;
  seed: number;
}

/** What a task has when nothing is said. */
export const taskDefaults = {
  strategy: { name: 'fedAvg' },
  encoding: 'mxint8',
  collectMs: 600_000,
  pauseMs: 0,
  rounds: 0,
  weightMax: 100_000,
  valueMaxExponent: 3,
  seed: 0,
} as const;

const GATHER_MS = 1_000;
const GRACE_MS = 5_000;
const KEYS = [
  'model',
  'strategy',
  'plan',
  'encoding',
  'cohort',
  'collectMs',
  'pauseMs',
  'rounds',
  'weightMax',
  'valueMaxExponent',
  'seed',
];

/** A task's configuration from JSON text. Throws ConfigError naming the key and the mend. */
export function parseTaskConfig(json: string): TaskConfig {
  const given = { ...taskDefaults, ...record(parsed(json), 'the configuration') };
  const unknown = Object.keys(given).find((key) => !KEYS.includes(key));
  if (unknown !== undefined)
    throw new ConfigError(`key "${unknown}" is not known: the keys are ${KEYS.join(', ')}`, unknown);
  const { model, encoding } = given as Record<string, unknown>;
  if (typeof model !== 'string' || !isName(model)) throw new ConfigError('model must be the name of a model', 'model');
  if (typeof encoding !== 'string' || !Object.hasOwn(encodings, encoding)) {
    throw new ConfigError(`encoding must be one of ${Object.keys(encodings).join(', ')}`, 'encoding');
  }
  const strategy = record(given.strategy, 'strategy') as TaskConfig['strategy'];
  const plan = parsePlan((given as Record<string, unknown>)['plan']);
  // Agents parse what they are instructed: an option that makes a plan they refuse is refused here.
  const recipe = strategyFrom(strategy);
  parsePlan(recipe.instruct(plan));
  const cohort = record((given as Record<string, unknown>)['cohort'], 'cohort');
  const min = whole(cohort, 'min', 'cohort.min', 1, 1_000_000);
  const max = whole(cohort, 'max', 'cohort.max', min, 1_000_000);
  requireCohort(recipe, { min, max });
  return {
    model,
    strategy,
    plan,
    encoding: encoding as EncodingName,
    cohort: { min, max },
    collectMs: whole(given, 'collectMs', 'collectMs', 1, 7 * 86_400_000),
    pauseMs: whole(given, 'pauseMs', 'pauseMs', 0, 7 * 86_400_000),
    rounds: whole(given, 'rounds', 'rounds', 0, 1e9),
    weightMax: whole(given, 'weightMax', 'weightMax', 1, 2 ** 23),
    valueMaxExponent: whole(given, 'valueMaxExponent', 'valueMaxExponent', -32, 32),
    seed: whole(given, 'seed', 'seed', 0, Number.MAX_SAFE_INTEGER),
  };
}

/** The part of a configuration that the round machine reads. */
export function policyOf(config: TaskConfig): RoundPolicy {
  const { cohort, collectMs, pauseMs, rounds, seed } = config;
  return {
    cohortMin: cohort.min,
    cohortMax: cohort.max,
    collectMs,
    pauseMs,
    gatherMs: GATHER_MS,
    graceMs: GRACE_MS,
    roundsMax: rounds,
    seed,
  };
}

/** Robust rules need enough updates to tell the honest by, and some take only so many. */
function requireCohort({ name, robust }: Strategy, { min, max }: TaskConfig['cohort']): void {
  if (robust === undefined) return;
  const { updatesMin, updatesMax } = robust;
  if (min < updatesMin) {
    throw new ConfigError(
      `cohort.min is ${min}, and ${name} with these options needs ${updatesMin} updates: raise cohort.min, or change the options of the strategy`,
      'cohort.min',
    );
  }
  if (max > updatesMax) {
    throw new ConfigError(
      `cohort.max is ${max}, and ${name} takes at most ${updatesMax} updates: lower cohort.max`,
      'cohort.max',
    );
  }
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw new ConfigError(`the configuration is not JSON: ${(cause as Error).message}`, undefined, { cause });
  }
}

function record(value: unknown, key: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new ConfigError(`${key} must be an object`, key);
}

function whole(from: object, key: string, path: string, min: number, max: number): number {
  const value = (from as Record<string, unknown>)[key];
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw new ConfigError(`${path} must be a whole number from ${min} to ${max}`, path);
}

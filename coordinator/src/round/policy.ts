import {
  asynchronously,
  BUFFERED_UPDATES_MAX,
  ConfigError,
  encodings,
  FRESH_WEIGHT,
  gridFor,
  localMethodOf,
  parseAsynchronous,
  parsePlan,
  strategyFrom,
  type Asynchronous,
  type EncodingName,
  type GridSpec,
  type Strategy,
  type TrainingPlan,
} from '@commonweight/core';
import { isName } from '@commonweight/proto';
import { parseVariantPolicy, type VariantPolicy } from '../variants/forms.ts';
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
  /** Newest versions whose updates stay in the store, for audits; 0 is none. */
  retainUpdates: number;
  /** Work without rounds, with any strategy that sees deltas alone. `fedBuff` and `fedAsync` have it in their own options. */
  asynchronous?: Asynchronous;
  /** Forms that each version is to have; without it, float32 alone. */
  variants?: VariantPolicy;
  /** The version that the plan's distillation learns from; 0 is the newest there is when the task is made. */
  teacher?: { model: string; version: number };
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
  retainUpdates: 0,
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
  'retainUpdates',
  'asynchronous',
  'variants',
  'teacher',
];

/** A task's configuration from JSON text. Throws ConfigError naming the key and the mend. */
export function parseTaskConfig(json: string): TaskConfig {
  const given = { ...taskDefaults, ...record(parsed(json), 'the configuration') };
  const unknown = Object.keys(given).find((key) => !KEYS.includes(key));
  if (unknown !== undefined)
    throw new ConfigError(`key "${unknown}" is not known: the keys are ${KEYS.join(', ')}`, unknown);
  const { model, encoding, variants, teacher } = given as Record<string, unknown>;
  if (typeof model !== 'string' || !isName(model)) throw new ConfigError('model must be the name of a model', 'model');
  if (typeof encoding !== 'string' || !Object.hasOwn(encodings, encoding)) {
    throw new ConfigError(`encoding must be one of ${Object.keys(encodings).join(', ')}`, 'encoding');
  }
  const strategy = record(given.strategy, 'strategy') as TaskConfig['strategy'];
  const plan = parsePlan((given as Record<string, unknown>)['plan']);
  // Agents parse what they are instructed: an option that makes a plan they refuse is refused here.
  const asynchronous = (given as Record<string, unknown>)['asynchronous'];
  const own = {
    strategy,
    ...(asynchronous === undefined
      ? {}
      : { asynchronous: parseAsynchronous(record(asynchronous, 'asynchronous'), 'asynchronous') }),
  };
  const recipe = strategyOf(own);
  if (plan.local !== undefined) {
    throw new ConfigError('local is what a strategy adds to the plan: choose the strategy instead', 'local');
  }
  const { shape } = localMethodOf(parsePlan(recipe.instruct(plan)));
  if (recipe.robust !== undefined && (shape.vectors > 1 || shape.numbersMax.length > 0)) {
    throw new ConfigError(
      `${recipe.name} has a robust rule, and rules see deltas only: instruct no local method`,
      'strategy',
    );
  }
  if (encoding === 'mxint4' && shape.numbersMax.length > 0) {
    throw new ConfigError(
      `${recipe.name} adds numbers to updates, and mxint4 is too coarse for them: choose mxint8`,
      'encoding',
    );
  }
  const cohort = record((given as Record<string, unknown>)['cohort'], 'cohort');
  const min = whole(cohort, 'min', 'cohort.min', 1, 1_000_000);
  const max = whole(cohort, 'max', 'cohort.max', min, 1_000_000);
  requireCohort(recipe, { min, max });
  const pauseMs = whole(given, 'pauseMs', 'pauseMs', 0, 7 * 86_400_000);
  if (recipe.asynchronous !== undefined) requireBuffer(recipe.asynchronous, { min, pauseMs });
  return {
    model,
    ...own,
    plan,
    encoding: encoding as EncodingName,
    cohort: { min, max },
    collectMs: whole(given, 'collectMs', 'collectMs', 1, 7 * 86_400_000),
    pauseMs,
    rounds: whole(given, 'rounds', 'rounds', 0, 1e9),
    weightMax: whole(given, 'weightMax', 'weightMax', 1, 2 ** 23),
    valueMaxExponent: whole(given, 'valueMaxExponent', 'valueMaxExponent', -32, 32),
    seed: whole(given, 'seed', 'seed', 0, Number.MAX_SAFE_INTEGER),
    retainUpdates: whole(given, 'retainUpdates', 'retainUpdates', 0, 1_000_000),
    ...(variants === undefined ? {} : { variants: parseVariantPolicy(record(variants, 'variants')) }),
    ...teacherOf(teacher, plan),
  };
}

/** The strategy of a task. Throws ConfigError. */
export function strategyOf({ asynchronous, strategy }: Pick<TaskConfig, 'asynchronous' | 'strategy'>): Strategy {
  const recipe = strategyFrom(strategy);
  if (asynchronous === undefined) return recipe;
  if (recipe.asynchronous !== undefined) {
    throw new ConfigError(
      `${recipe.name} is asynchronous by itself: give bufferSize and the like as its options, and leave the key out`,
      'asynchronous',
    );
  }
  return asynchronously(recipe, asynchronous);
}

/** The grid of a task's updates. Throws ConfigError. */
export function gridOf(config: TaskConfig): GridSpec {
  const { cohort, valueMaxExponent, weightMax } = config;
  if (strategyOf(config).asynchronous === undefined)
    return gridFor({ valueMaxExponent, weightMax, cohortMax: cohort.max });
  return gridFor({ valueMaxExponent, weightMax: FRESH_WEIGHT, cohortMax: BUFFERED_UPDATES_MAX });
}

/** The part of a configuration that the round machine reads. */
export function policyOf(config: TaskConfig): RoundPolicy {
  const { cohort, collectMs, pauseMs, rounds, seed } = config;
  const { asynchronous } = strategyOf(config);
  return {
    cohortMin: cohort.min,
    cohortMax: cohort.max,
    collectMs,
    pauseMs,
    gatherMs: GATHER_MS,
    graceMs: GRACE_MS,
    roundsMax: rounds,
    seed,
    ...(asynchronous === undefined ? {} : { asynchronous }),
  };
}

/** A teacher and a distillation go together. */
function teacherOf(value: unknown, { distillation }: TrainingPlan): Pick<TaskConfig, 'teacher'> {
  if (value === undefined) {
    if (distillation === undefined) return {};
    throw new ConfigError(
      'teacher is missing: the plan has a distillation, so say of which model, such as {"model": "big"}',
      'teacher',
    );
  }
  if (distillation === undefined) {
    throw new ConfigError('plan.distillation is missing: there is a teacher, so say how to learn from it', 'plan');
  }
  const teacher = record(value, 'teacher');
  const unknown = Object.keys(teacher).find((key) => key !== 'model' && key !== 'version');
  if (unknown !== undefined) throw new ConfigError(`teacher.${unknown} is not known; use model, version`, 'teacher');
  const { model, version = 0 } = teacher;
  if (typeof model !== 'string' || !isName(model)) {
    throw new ConfigError('teacher.model must be the name of a model', 'teacher.model');
  }
  return { teacher: { model, version: whole({ version }, 'version', 'teacher.version', 0, Number.MAX_SAFE_INTEGER) } };
}

function requireBuffer({ bufferSize }: Asynchronous, { min, pauseMs }: { min: number; pauseMs: number }): void {
  if (min > bufferSize) {
    throw new ConfigError(
      `cohort.min is ${min} and the buffer takes ${bufferSize}: a version would never have that many, so lower cohort.min or raise bufferSize`,
      'cohort.min',
    );
  }
  if (pauseMs > 0) throw new ConfigError('pauseMs is between two rounds, and there are none: leave it out', 'pauseMs');
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

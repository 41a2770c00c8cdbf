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
import { inviteMaxOf, parseCohort, requireSeparation, type CohortConfig } from './cohort.ts';
import { parsed, record, requireKeys, whole } from './fields.ts';
import type { RoundPolicy } from './round.ts';
import { parseWhere, type Where } from './where.ts';

/** A task as the engineer configures it. */
export interface TaskConfig {
  model: string;
  strategy: { name: string } & Record<string, number | string>;
  plan: TrainingPlan;
  encoding: EncodingName;
  cohort: CohortConfig;
  /** Milliseconds that a round waits for updates. */
  collectMs: number;
  /** Milliseconds after which the minimum of updates is enough; without it a round waits for all who were invited. */
  collectMinMs?: number;
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
  /** Which agents it may invite; without it, all. */
  where?: Where;
  /** Forms that each version is to have; without it, float32 alone. */
  variants?: VariantPolicy;
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
  'collectMinMs',
  'pauseMs',
  'rounds',
  'weightMax',
  'valueMaxExponent',
  'seed',
  'retainUpdates',
  'asynchronous',
  'where',
  'variants',
];

/** A task's configuration from JSON text. Throws ConfigError naming the key and the mend. */
export function parseTaskConfig(json: string): TaskConfig {
  const given = { ...taskDefaults, ...record(parsed(json), 'the configuration') };
  requireKeys(given, KEYS, '');
  const { model, encoding, variants, where } = given as Record<string, unknown>;
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
  const cohort = parseCohort((given as Record<string, unknown>)['cohort']);
  requireCohort(recipe, cohort);
  requireSeparation(cohort, recipe.asynchronous?.bufferSize ?? inviteMaxOf(cohort));
  const pauseMs = whole(given, 'pauseMs', 'pauseMs', 0, 7 * 86_400_000);
  const collectMs = whole(given, 'collectMs', 'collectMs', 1, 7 * 86_400_000);
  const { collectMinMs } = given as { collectMinMs?: unknown };
  if (recipe.asynchronous !== undefined) requireBuffer(recipe.asynchronous, { cohort, pauseMs, collectMinMs });
  return {
    model,
    ...own,
    plan,
    encoding: encoding as EncodingName,
    cohort,
    collectMs,
    ...(collectMinMs === undefined ? {} : { collectMinMs: whole(given, 'collectMinMs', 'collectMinMs', 0, collectMs) }),
    pauseMs,
    rounds: whole(given, 'rounds', 'rounds', 0, 1e9),
    weightMax: whole(given, 'weightMax', 'weightMax', 1, 2 ** 23),
    valueMaxExponent: whole(given, 'valueMaxExponent', 'valueMaxExponent', -32, 32),
    seed: whole(given, 'seed', 'seed', 0, Number.MAX_SAFE_INTEGER),
    retainUpdates: whole(given, 'retainUpdates', 'retainUpdates', 0, 1_000_000),
    ...(where === undefined ? {} : { where: parseWhere(where) }),
    ...(variants === undefined ? {} : { variants: parseVariantPolicy(record(variants, 'variants')) }),
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
    // With several coordinators a round may take more than close it, while it is being closed: at most all that were invited.
    return gridFor({ valueMaxExponent, weightMax, cohortMax: inviteMaxOf(cohort) });
  return gridFor({ valueMaxExponent, weightMax: FRESH_WEIGHT, cohortMax: BUFFERED_UPDATES_MAX });
}

/** The part of a configuration that the round machine reads. */
export function policyOf(config: TaskConfig): RoundPolicy {
  const { cohort, collectMs, collectMinMs, pauseMs, rounds, seed } = config;
  const { asynchronous } = strategyOf(config);
  return {
    cohortMin: cohort.min,
    cohortMax: cohort.max,
    inviteMax: inviteMaxOf(cohort),
    collectMs,
    ...(collectMinMs === undefined ? {} : { collectMinMs }),
    pauseMs,
    gatherMs: GATHER_MS,
    graceMs: GRACE_MS,
    roundsMax: rounds,
    separation: cohort.separation ?? 0,
    seed,
    ...(asynchronous === undefined ? {} : { asynchronous }),
  };
}

function requireBuffer(
  { bufferSize }: Asynchronous,
  { cohort, pauseMs, collectMinMs }: { cohort: CohortConfig; pauseMs: number; collectMinMs: unknown },
): void {
  if (cohort.min > bufferSize) {
    throw new ConfigError(
      `cohort.min is ${cohort.min} and the buffer takes ${bufferSize}: a version would never have that many, so lower cohort.min or raise bufferSize`,
      'cohort.min',
    );
  }
  if (pauseMs > 0) throw new ConfigError('pauseMs is between two rounds, and there are none: leave it out', 'pauseMs');
  if (collectMinMs !== undefined)
    throw new ConfigError('collectMinMs is of a round, and there are none: leave it out', 'collectMinMs');
  if (cohort.overSelection !== undefined)
    throw new ConfigError(
      'cohort.overSelection is for rounds, which wait for their slowest: a buffer does not, so leave it out',
      'cohort.overSelection',
    );
}

/** Robust rules need enough updates to tell the honest by, and some take only so many. */
function requireCohort({ name, robust }: Strategy, cohort: CohortConfig): void {
  if (robust === undefined) return;
  const { updatesMin, updatesMax } = robust;
  if (cohort.min < updatesMin) {
    throw new ConfigError(
      `cohort.min is ${cohort.min}, and ${name} with these options needs ${updatesMin} updates: raise cohort.min, or change the options of the strategy`,
      'cohort.min',
    );
  }
  if (inviteMaxOf(cohort) > updatesMax) {
    throw new ConfigError(
      `a round invites up to ${inviteMaxOf(cohort)} agents, and ${name} takes at most ${updatesMax} updates: lower cohort.max or cohort.overSelection`,
      'cohort.max',
    );
  }
}

import {
  asynchronously,
  BUFFERED_UPDATES_MAX,
  ConfigError,
  downlinkNames,
  FRESH_WEIGHT,
  gridFor,
  localMethodOf,
  parseAsynchronous,
  parsePlan,
  strategyFrom,
  type Asynchronous,
  type DownlinkName,
  type FormatChoice,
  type GridSpec,
  type Strategy,
  type TrainingPlan,
} from '@commonweight/core';
import { isName } from '@commonweight/proto';
import { parseVariantPolicy, type VariantPolicy } from '../variants/forms.ts';
import { inviteMaxOf, type CohortConfig } from './cohort.ts';
import { parsed, record, requireKeys, whole } from './fields.ts';
import { FORMAT_KEYS, parseFormat } from './format-config.ts';
import { evaluationPolicyOf, parseGates, type GatesConfig } from './gates.ts';
import { parseEvaluation, type EvaluationAsked } from './measure.ts';
import type { RoundPolicy } from './round.ts';
import {
  parseSchedule,
  requireMemory,
  scheduleDefaults,
  schedulePolicyOf,
  SCHEDULE_KEYS,
  type ScheduleConfig,
} from './schedule.ts';

/** A task that trains, as the engineer configures it. */
export interface TaskConfig extends ScheduleConfig, FormatChoice {
  strategy: { name: string } & Record<string, number | string>;
  plan: TrainingPlan;
  /** Cap on the weight of one update. */
  weightMax: number;
  /** Values of an update above 2^this are refused. */
  valueMaxExponent: number;
  /** Newest versions whose updates stay in the store, for audits; 0 is none. */
  retainUpdates: number;
  /** Work without rounds, with any strategy that sees deltas alone. `fedBuff` and `fedAsync` have it in their own options. */
  asynchronous?: Asynchronous;
  /** How versions travel to who has an older one: whole, or as steps on a grid that they are rounded to. */
  downlink: DownlinkName;
  /** What a round makes must pass this to be a version. */
  gates?: GatesConfig;
  /** Forms that each version is to have; without it, float32 alone. */
  variants?: VariantPolicy;
  /** The version that the plan's distillation learns from; 0 is the newest there is when the task is made. */
  teacher?: { model: string; version: number };
}

/** What a task has when nothing is said. */
export const taskDefaults: typeof scheduleDefaults &
  Pick<
    TaskConfig,
    'strategy' | 'encoding' | 'compression' | 'downlink' | 'weightMax' | 'valueMaxExponent' | 'retainUpdates'
  > = {
  ...scheduleDefaults,
  strategy: { name: 'fedAvg' },
  encoding: 'mxint8',
  compression: 'zstd',
  downlink: 'float32',
  weightMax: 100_000,
  valueMaxExponent: 3,
  retainUpdates: 0,
};

const KEYS: readonly string[] = [
  ...SCHEDULE_KEYS,
  'kind',
  'strategy',
  'plan',
  ...FORMAT_KEYS,
  'downlink',
  'weightMax',
  'valueMaxExponent',
  'retainUpdates',
  'asynchronous',
  'gates',
  'variants',
  'teacher',
];

/** The configuration of a task that trains, from JSON text. Throws ConfigError naming the key and the mend. */
export const parseTaskConfig = (json: string): TaskConfig => parseTraining(record(parsed(json), 'the configuration'));

/** Checks what a task that trains is configured with. Throws ConfigError naming the key and the mend. */
export function parseTraining(configured: Record<string, unknown>): TaskConfig {
  const given: Record<string, unknown> = { ...taskDefaults, ...configured };
  requireKeys(given, KEYS, '');
  const { gates, variants, asynchronous, teacher } = given;
  const downlink = downlinkNames.find((name) => name === given['downlink']);
  if (downlink === undefined) throw new ConfigError(`downlink must be one of ${downlinkNames.join(', ')}`, 'downlink');
  const strategy = record(given['strategy'], 'strategy') as TaskConfig['strategy'];
  const plan = parsePlan(given['plan']);
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
  // Agents parse what they are instructed: an option that makes a plan they refuse is refused here.
  const { shape } = localMethodOf(parsePlan(recipe.instruct(plan)));
  if (recipe.robust !== undefined && (shape.vectors > 1 || shape.numbersMax.length > 0)) {
    throw new ConfigError(
      `${recipe.name} has a robust rule, and rules see deltas only: instruct no local method`,
      'strategy',
    );
  }
  const isRobust = recipe.robust !== undefined;
  const localLayers = plan.localLayers !== undefined;
  const format = parseFormat(given, { strategy: recipe.name, shape, isRobust, localLayers });
  const schedule = parseSchedule(given);
  const { cohort, evaluators } = schedule;
  requireCohort(recipe, cohort);
  requireRoot(recipe, schedule);
  requireMemory(cohort, recipe.asynchronous?.bufferSize);
  if (recipe.asynchronous !== undefined) requireBuffer(recipe.asynchronous, schedule);
  const config: TaskConfig = {
    ...schedule,
    ...own,
    plan,
    ...format,
    downlink,
    weightMax: whole(given, 'weightMax', 'weightMax', 1, 2 ** 23),
    valueMaxExponent: whole(given, 'valueMaxExponent', 'valueMaxExponent', -32, 32),
    retainUpdates: whole(given, 'retainUpdates', 'retainUpdates', 0, 1_000_000),
    ...(gates === undefined ? {} : { gates: parseGates(gates, evaluators !== undefined) }),
    ...(variants === undefined ? {} : { variants: parseVariantPolicy(record(variants, 'variants')) }),
    ...teacherOf(teacher, plan),
  };
  requireGates(config, recipe);
  return config;
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
  const { asynchronous, robust } = strategyOf(config);
  const roots = robust?.needsRoot === true ? 1 : 0;
  if (asynchronous === undefined)
    // With several coordinators a round may take more than close it, while it is being closed: at most all that were invited.
    return gridFor({ valueMaxExponent, weightMax, cohortMax: inviteMaxOf(cohort) + roots });
  return gridFor({ valueMaxExponent, weightMax: FRESH_WEIGHT, cohortMax: BUFFERED_UPDATES_MAX });
}

/** The part of a configuration that the round machine reads. */
export function policyOf(config: TaskConfig): RoundPolicy {
  const { asynchronous, robust } = strategyOf(config);
  const { gates } = config;
  return {
    ...schedulePolicyOf(config),
    ...(robust?.needsRoot === true ? { needsRoot: true } : {}),
    ...(asynchronous === undefined ? {} : { asynchronous }),
    ...(gates?.metric === undefined ? {} : { evaluation: evaluationPolicyOf(gates.metric) }),
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
  requireKeys(teacher, ['model', 'version'], 'teacher');
  const { model, version = 0 } = teacher;
  if (typeof model !== 'string' || !isName(model)) {
    throw new ConfigError('teacher.model must be the name of a model', 'teacher.model');
  }
  return { teacher: { model, version: whole({ version }, 'version', 'teacher.version', 0, Number.MAX_SAFE_INTEGER) } };
}

/** What agents evaluate a candidate by, where a gate asks for it. Throws ConfigError. */
export function gateEvaluationOf({ evaluators, gates, plan }: TaskConfig): EvaluationAsked | undefined {
  const metric = gates?.metric;
  if (metric === undefined) return undefined;
  const { evaluation, loss, lossGraph, lossOptions, sizes } = plan;
  const asked = parseEvaluation({
    loss,
    metrics: [...new Set([metric.name, ...(evaluation?.metrics ?? [])])],
    ...(evaluation?.holdOut === undefined ? {} : { holdOut: evaluation.holdOut }),
    ...(evaluation?.k === undefined ? {} : { k: evaluation.k }),
    ...(lossOptions === undefined ? {} : { lossOptions }),
    ...(lossGraph === undefined ? {} : { lossGraph }),
    ...(sizes === undefined ? {} : { sizes }),
  });
  if (evaluators !== undefined || evaluation?.metrics.includes(metric.name) === true) return asked;
  throw new ConfigError(
    `gates.metric asks agents for ${metric.name} on examples that they did not train on: set some aside with plan.evaluation (--metrics ${metric.name}), or name evaluators`,
    'gates.metric',
  );
}

function requireGates(config: TaskConfig, { asynchronous }: Strategy): void {
  if (config.gates?.metric === undefined) return;
  gateEvaluationOf(config);
  if (asynchronous !== undefined) {
    throw new ConfigError(
      'gates.metric holds a candidate back until it is evaluated, and without rounds nothing waits: leave it out, or work in rounds',
      'gates.metric',
    );
  }
  if (config.retainUpdates > 0) {
    throw new ConfigError(
      'retainUpdates keeps updates in the commit of their version, and with gates.metric that comes later: leave one of the two out',
      'retainUpdates',
    );
  }
}

function requireBuffer({ bufferSize }: Asynchronous, { cohort, pauseMs, collectMinMs }: ScheduleConfig): void {
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

/** Who is to judge must be named, and be in the round. */
function requireRoot({ asynchronous, name, robust }: Strategy, { evaluators }: ScheduleConfig): void {
  if (robust?.needsRoot !== true) return;
  if (evaluators === undefined)
    throw new ConfigError(
      `${name} judges updates by that of an evaluator whose data are known to be good: name one (--evaluator), and start it with agent --evaluator`,
      'evaluators',
    );
  if (asynchronous !== undefined)
    throw new ConfigError(
      `${name} needs the update of an evaluator on the same version in each round, and without rounds there is none: leave the buffer out`,
      'asynchronous',
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
  const { max, overSelection } = cohort;
  const invited = inviteMaxOf(cohort);
  if (invited > updatesMax) {
    const surplus = overSelection === undefined ? '' : `, with cohort.overSelection ${invited} agents are invited`;
    throw new ConfigError(
      `cohort.max is ${max}${surplus}, and ${name} takes at most ${updatesMax} updates: lower cohort.max`,
      'cohort.max',
    );
  }
}

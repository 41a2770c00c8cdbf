import { strategies } from '@commonweight/core';
import type { VersionedName } from '../output/arguments.ts';
import { UsageError } from '../output/failure.ts';
import { cohortOf, given, lossIn, requireNone, sizesOf, whereIn, type Config } from './config-parts.ts';
import { gatesOf } from './gate-flags.ts';
import { measureConfig, STATISTICS_FLAGS } from './measure-flags.ts';

/** What `task create` takes on the command line. */
export interface TaskFlags {
  model?: string;
  strategy?: string;
  mu?: number;
  serverLearningRate?: number;
  strategyOption?: Record<string, number>;
  rounds?: number;
  cohortMin?: number;
  cohortMax?: number;
  overSelection?: number;
  separation?: number;
  where?: string[];
  epochs?: number;
  batch?: number;
  learningRate?: number;
  momentum?: number;
  optimizer?: string;
  loss?: string;
  /** In base64. */
  lossGraph?: string;
  size?: Record<string, number>;
  localLayers?: string[];
  encoding?: string;
  topK?: number;
  rotate?: true;
  compression?: string;
  downlink?: string;
  collectMs?: number;
  collectMinMs?: number;
  pauseMs?: number;
  seed?: number;
  retainUpdates?: number;
  bufferSize?: number;
  metrics?: string[];
  holdOut?: number;
  stalenessMax?: number;
  variants?: string[];
  variantsDropMax?: number;
  calibrationAgentsMin?: number;
  calibrationMethod?: string;
  distillFrom?: VersionedName;
  temperature?: number;
  alpha?: number;
  kind?: string;
  evaluator?: string[];
  gateNorm?: number;
  gateNormRounds?: number;
  gateMetric?: string;
  gateMargin?: number;
  gateMin?: number;
  gateMax?: number;
  gateMs?: number;
  features?: string;
  precisionBits?: number;
  range?: string;
  classes?: number;
}

/** A task's configuration: what the file says, and over it what the flags say. */
export function taskConfig(flags: TaskFlags, file: Config = {}): Config {
  const kind = flags.kind ?? file['kind'] ?? 'train';
  if (typeof kind !== 'string') throw new UsageError('kind in the file must be train, evaluate or statistics');
  if (kind !== 'train') return measureConfig(kind, flags, file);
  requireNone(flags, STATISTICS_FLAGS, 'goes with --kind statistics');
  const plan = (file['plan'] ?? {}) as Config;
  const cohort = (file['cohort'] ?? {}) as Config;
  const strategy: Config = {
    name: 'fedAvg',
    ...((file['strategy'] ?? {}) as Config),
    ...given({ name: flags.strategy }),
  };
  const { isOwn, own, asynchronous } = bufferOf(file, String(strategy['name']), flags);
  const isAsynchronous = isOwn || asynchronous !== undefined;
  const config: Config = {
    ...file,
    ...given({
      kind: flags.kind,
      model: flags.model,
      rounds: flags.rounds,
      encoding: flags.encoding,
      topK: flags.topK,
      rotate: flags.rotate,
      compression: flags.compression,
      downlink: flags.downlink,
    }),
    ...whereIn((file['where'] ?? {}) as Config, flags),
    ...variantsOf((file['variants'] ?? {}) as Config, flags),
    ...given({
      collectMs: flags.collectMs,
      collectMinMs: flags.collectMinMs,
      pauseMs: flags.pauseMs,
      seed: flags.seed,
    }),
    ...given({ retainUpdates: flags.retainUpdates }),
    ...given({ asynchronous, teacher: teacherOf(flags) }),
    ...given({ evaluators: flags.evaluator, gates: gatesOf((file['gates'] ?? {}) as Config, flags) }),
    strategy: {
      ...strategy,
      ...own,
      ...flags.strategyOption,
      ...given({ mu: flags.mu, serverLearningRate: flags.serverLearningRate }),
    },
    plan: {
      loss: 'cross-entropy',
      epochs: 1,
      batchSize: 10,
      ...plan,
      ...evaluationOf((plan['evaluation'] ?? {}) as Config, flags),
      ...distillationOf((plan['distillation'] ?? {}) as Config, file['teacher'] !== undefined, flags),
      ...given({
        ...lossIn(flags),
        epochs: flags.epochs,
        batchSize: flags.batch,
        localLayers: flags.localLayers,
      }),
      ...sizesOf((plan['sizes'] ?? {}) as Config, flags),
      optimizer: {
        name: 'sgd',
        learningRate: /^(adam|rmsprop)/.test(flags.optimizer ?? '')
          ? 0.001
          : flags.optimizer === 'adagrad'
            ? 0.01
            : 0.1,
        ...((plan['optimizer'] ?? {}) as Config),
        ...given({ name: flags.optimizer, learningRate: flags.learningRate, momentum: flags.momentum }),
      },
    },
    cohort: cohortOf(cohort, flags, isAsynchronous ? 1 : 2),
  };
  if (config['model'] === undefined) throw new UsageError('--model is missing: say which model the task improves');
  return config;
}

/** Work without rounds, which some strategies have in their own options; nothing where nobody asked for it. */
function bufferOf(file: Config, strategy: string, { bufferSize, stalenessMax }: TaskFlags) {
  const said = given({ bufferSize, stalenessMax });
  const isOwn = Object.hasOwn(strategies, strategy) && strategies[strategy]!.options.includes('stalenessMax');
  const more = { ...((file['asynchronous'] ?? {}) as Config), ...(isOwn ? {} : said) };
  return { isOwn, own: isOwn ? said : {}, asynchronous: Object.keys(more).length === 0 ? undefined : more };
}

/** What agents measure; nothing where nobody asked for it. */
function evaluationOf(file: Config, { metrics, holdOut }: TaskFlags): Config {
  const evaluation = { ...file, ...given({ metrics, holdOut }) };
  if (Object.keys(evaluation).length === 0) return {};
  if (evaluation['metrics'] === undefined) throw new UsageError('--hold-out goes with --metrics: say what is measured');
  return { evaluation };
}

const teacherOf = ({ distillFrom }: TaskFlags): Config | undefined =>
  distillFrom === undefined ? undefined : { model: distillFrom.name, version: distillFrom.version };

/** How a teacher's answers are learnt; nothing where there is no teacher. */
function distillationOf(file: Config, hasTeacher: boolean, { distillFrom, temperature, alpha }: TaskFlags): Config {
  const distillation = { ...file, ...given({ temperature, alpha }) };
  if (distillFrom !== undefined) return { distillation };
  if (Object.keys(distillation).length === 0) return {};
  if (!hasTeacher) throw new UsageError('--temperature and --alpha go with --distill-from: say which model teaches');
  return { distillation };
}

/** Forms that each version is to have; nothing where nobody asked for them. */
function variantsOf(file: Config, flags: TaskFlags): Config {
  const { variants, variantsDropMax, calibrationAgentsMin, calibrationMethod } = flags;
  const config = {
    ...file,
    ...given({
      forms: variants,
      accuracyDropPointsMax: variantsDropMax,
      calibrationAgentsMin,
      calibrationMethod,
    }),
  };
  if (Object.keys(config).length === 0) return {};
  if (config['forms'] === undefined) {
    throw new UsageError('--variants-drop-max, --calibration-agents-min and --calibration-method go with --variants');
  }
  return { variants: config };
}

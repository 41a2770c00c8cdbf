import { UsageError } from '../output/failure.ts';

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
  epochs?: number;
  batch?: number;
  learningRate?: number;
  momentum?: number;
  optimizer?: string;
  loss?: string;
  encoding?: string;
  collectMs?: number;
  pauseMs?: number;
  seed?: number;
}

type Config = Record<string, unknown>;

/** A task's configuration: what the file says, and over it what the flags say. */
export function taskConfig(flags: TaskFlags, file: Config = {}): Config {
  const plan = (file['plan'] ?? {}) as Config;
  const cohort = (file['cohort'] ?? {}) as Config;
  const config: Config = {
    ...file,
    ...given({ model: flags.model, rounds: flags.rounds, encoding: flags.encoding }),
    ...given({ collectMs: flags.collectMs, pauseMs: flags.pauseMs, seed: flags.seed }),
    strategy: {
      name: 'fedAvg',
      ...((file['strategy'] ?? {}) as Config),
      ...flags.strategyOption,
      ...given({ name: flags.strategy, mu: flags.mu, serverLearningRate: flags.serverLearningRate }),
    },
    plan: {
      loss: 'cross-entropy',
      epochs: 1,
      batchSize: 10,
      ...plan,
      ...given({ loss: flags.loss, epochs: flags.epochs, batchSize: flags.batch }),
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
    cohort: cohortOf(cohort, flags),
  };
  if (config['model'] === undefined) throw new UsageError('--model is missing: say which model the task improves');
  return config;
}

function cohortOf(file: Config, { cohortMin, cohortMax }: TaskFlags): Config {
  const min = cohortMin ?? (file['min'] as number | undefined) ?? Math.min(2, cohortMax ?? 2);
  const max = cohortMax ?? (file['max'] as number | undefined) ?? Math.max(min, 100);
  if (min > max) throw new UsageError(`--cohort-min ${min} is more than --cohort-max ${max}`);
  return { ...file, min, max };
}

const given = (values: Config): Config =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

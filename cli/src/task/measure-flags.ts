import { UsageError } from '../output/failure.ts';
import { cohortOf, given, lossIn, requireNone, sizesOf, whereIn, type Config } from './config-parts.ts';
import type { TaskFlags } from './task-flags.ts';

export const STATISTICS_FLAGS = ['features', 'precisionBits', 'range', 'classes'] as const;
const TRAINING_FLAGS = [
  'strategy',
  'mu',
  'serverLearningRate',
  'strategyOption',
  'epochs',
  'batch',
  'learningRate',
  'momentum',
  'optimizer',
  'localLayers',
  'encoding',
  'retainUpdates',
  'bufferSize',
  'stalenessMax',
  'variants',
  'variantsDropMax',
  'calibrationAgentsMin',
  'calibrationMethod',
  'gateNorm',
  'gateNormRounds',
  'gateMetric',
  'gateMargin',
  'gateMin',
  'gateMax',
  'gateMs',
] as const;
const EVALUATION_FLAGS = ['loss', 'lossGraph', 'metrics', 'holdOut', 'size'] as const;

/** A task that measures: what it has in common with others, and what agents are asked. */
export function measureConfig(kind: string, flags: TaskFlags, file: Config): Config {
  requireNone(flags, TRAINING_FLAGS, `is for tasks that train, and --kind is ${kind}`);
  if (kind === 'evaluate') requireNone(flags, STATISTICS_FLAGS, 'goes with --kind statistics');
  if (kind === 'statistics') requireNone(flags, EVALUATION_FLAGS, 'says nothing where agents only count');
  const asked = { ...lossIn(flags), metrics: flags.metrics, holdOut: flags.holdOut };
  const inFile = (file['evaluation'] ?? {}) as Config;
  const sizes = sizesOf((inFile['sizes'] ?? {}) as Config, flags);
  const evaluation = { loss: 'cross-entropy', ...inFile, ...given(asked), ...sizes };
  const { features, precisionBits, classes, range } = flags;
  const counted = { features, precisionBits, classes, ...(range === undefined ? {} : rangeOf(range)) };
  const config: Config = {
    ...file,
    kind,
    ...given({ model: flags.model, rounds: flags.rounds, seed: flags.seed, evaluators: flags.evaluator }),
    ...given({ collectMs: flags.collectMs, collectMinMs: flags.collectMinMs, pauseMs: flags.pauseMs }),
    ...whereIn((file['where'] ?? {}) as Config, flags),
    ...(kind === 'evaluate'
      ? { evaluation }
      : { statistics: { ...((file['statistics'] ?? {}) as Config), ...given(counted) } }),
    cohort: cohortOf((file['cohort'] ?? {}) as Config, flags, flags.evaluator === undefined ? 2 : 1),
  };
  if (config['model'] === undefined) throw new UsageError('--model is missing: say which model the task measures');
  return config;
}

function rangeOf(text: string): Config {
  const [, low, high] = /^(-?\d{1,3})\.\.(-?\d{1,3})$/.exec(text) ?? [];
  if (low === undefined) throw new UsageError(`--range ${text}: give two powers of two, such as -16..16`);
  return { low: Number(low), high: Number(high) };
}

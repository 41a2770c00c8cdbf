import type { RobustRule } from '../aggregation/robust/updates.ts';
import { ConfigError } from '../errors.ts';
import type { TrainingPlan } from '../training/plan.ts';
import { bulyan } from './bulyan.ts';
import { centredClipping } from './centred-clipping.ts';
import { fedAdagrad } from './fed-adagrad.ts';
import { fedAdam } from './fed-adam.ts';
import { fedAvgM } from './fed-avg-m.ts';
import { fedAvg } from './fed-avg.ts';
import { fedProx } from './fed-prox.ts';
import { fedYogi } from './fed-yogi.ts';
import { geometricMedian } from './geometric-median.ts';
import { krum } from './krum.ts';
import { median } from './median.ts';
import { multiKrum } from './multi-krum.ts';
import { normBound } from './norm-bound.ts';
import { trimmedMean } from './trimmed-mean.ts';

/** What is asked of agents, how much each update counts, how the updates become one, and what is done with that. */
export interface Strategy {
  name: string;
  /** The plan that agents get, from the task's own. */
  instruct(plan: TrainingPlan): TrainingPlan;
  /** Weight of an update, a whole number from 1 to `weightMax`. */
  weigh(examples: number, weightMax: number): number;
  /**
   * Makes the updates one delta by looking at each of them, and says how many it can work with. Without it the delta is their exact
   * weighted mean, and no update is kept.
   */
  robust?: { rule: RobustRule; updatesMin: number; updatesMax: number };
  /**
   * New weights from the base, the one delta of the round, and what the strategy remembered with the base: vectors of the model's
   * length, none at first.
   */
  improve(base: Float32Array, delta: Float32Array, memory: readonly Float32Array[]): Improvement;
}

export interface Improvement {
  weights: Float32Array;
  /** What the next round is given; it is published with the version. */
  memory: readonly Float32Array[];
}

/** A strategy's options, as a task's configuration has them. */
export type StrategyOptions = Readonly<Record<string, number>>;

/** Strategies by the name that a task gives. A new one is one file and one row. */
export const strategies: Record<string, { make: (options: StrategyOptions) => Strategy; options: readonly string[] }> =
  {
    fedAvg: { make: fedAvg, options: ['serverLearningRate'] },
    fedAvgM: { make: fedAvgM, options: ['serverLearningRate', 'serverMomentum'] },
    fedProx: { make: fedProx, options: ['mu', 'serverLearningRate'] },
    fedAdagrad: { make: fedAdagrad, options: ['serverLearningRate', 'beta1', 'tau', 'firstSecondMoment'] },
    fedAdam: { make: fedAdam, options: ['serverLearningRate', 'beta1', 'beta2', 'tau', 'firstSecondMoment'] },
    fedYogi: { make: fedYogi, options: ['serverLearningRate', 'beta1', 'beta2', 'tau', 'firstSecondMoment'] },
    median: { make: median, options: ['serverLearningRate'] },
    trimmedMean: { make: trimmedMean, options: ['trim', 'serverLearningRate'] },
    krum: { make: krum, options: ['attackers', 'serverLearningRate'] },
    multiKrum: { make: multiKrum, options: ['attackers', 'keep', 'serverLearningRate'] },
    bulyan: { make: bulyan, options: ['attackers', 'serverLearningRate'] },
    geometricMedian: { make: geometricMedian, options: ['smoothing', 'iterations', 'serverLearningRate'] },
    centredClipping: { make: centredClipping, options: ['clipNorm', 'iterations', 'serverLearningRate'] },
    normBound: { make: normBound, options: ['normMax', 'serverLearningRate'] },
  };

/** The strategy of a configuration such as `{ name: 'fedProx', mu: 0.01 }`. Throws ConfigError naming the key. */
export function strategyFrom(config: { name: string } & Record<string, unknown>): Strategy {
  const { name, ...options } = config;
  const recipe = Object.hasOwn(strategies, name) ? strategies[name] : undefined;
  if (recipe === undefined) {
    throw new ConfigError(
      `strategy "${name}" is not known: use one of ${Object.keys(strategies).join(', ')}`,
      'strategy',
    );
  }
  for (const [key, value] of Object.entries(options)) {
    if (!recipe.options.includes(key)) {
      throw new ConfigError(`${name} has no option "${key}": it has ${recipe.options.join(', ')}`, `strategy.${key}`);
    }
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
      throw new ConfigError(
        `strategy.${key} is ${String(value)}: give a number that is not negative`,
        `strategy.${key}`,
      );
    }
  }
  return recipe.make(options as StrategyOptions);
}

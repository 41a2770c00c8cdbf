import type { RobustRule } from '../aggregation/robust/updates.ts';
import { ConfigError } from '../errors.ts';
import type { TrainingPlan } from '../training/plan.ts';
import type { Asynchronous } from './asynchronous.ts';
import { adaptiveClipping } from './adaptive-clipping.ts';
import { bulyan } from './bulyan.ts';
import { centredClipping } from './centred-clipping.ts';
import { ditto } from './ditto.ts';
import { fedAdagrad } from './fed-adagrad.ts';
import { fedAdam } from './fed-adam.ts';
import { fedAsync } from './fed-async.ts';
import { fedAvgM } from './fed-avg-m.ts';
import { fedAvg } from './fed-avg.ts';
import { fedBuff } from './fed-buff.ts';
import { fedDyn } from './fed-dyn.ts';
import { fedNova } from './fed-nova.ts';
import { fedProx } from './fed-prox.ts';
import { fedYogi } from './fed-yogi.ts';
import { flTrust } from './fl-trust.ts';
import { geometricMedian } from './geometric-median.ts';
import { krum } from './krum.ts';
import { median } from './median.ts';
import { multiKrum } from './multi-krum.ts';
import { normBound } from './norm-bound.ts';
import { normZeroing } from './norm-zeroing.ts';
import { qFedAvg } from './q-fed-avg.ts';
import { scaffold } from './scaffold.ts';
import { trimmedMean } from './trimmed-mean.ts';

/** What is asked of agents, how much each update counts, how the updates become one, and what is done with that. */
export interface Strategy {
  name: string;
  /** The plan that agents get, from the task's own. */
  instruct(plan: TrainingPlan): TrainingPlan;
  /** Weight of an update that is `staleness` versions behind, a whole number from 1 to `weightMax`; without rounds to FRESH_WEIGHT. */
  weigh(examples: number, weightMax: number, staleness?: number): number;
  /** Where it works without rounds, how. */
  asynchronous?: Asynchronous;
  /**
   * Makes the updates one delta by looking at each of them, and says how many it can work with, and whether one more must be there that
   * the others are judged by: an evaluator's. Without it the delta is their exact weighted mean, and no update is kept.
   */
  robust?: { rule: RobustRule; updatesMin: number; updatesMax: number; needsRoot?: boolean };
  /**
   * New weights from the base, the one delta of the round, what the strategy remembered with the base (vectors of the model's length,
   * none at first), and what else the round brought.
   */
  improve(base: Float32Array, delta: Float32Array, memory: readonly Float32Array[], round: RoundSummary): Improvement;
}

/** What a round brought besides its one delta. */
export interface RoundSummary {
  /** Updates that were accepted. */
  updates: number;
  /** Sum of their weights. */
  weight: number;
  /** Weighted means of what the updates carry besides their deltas, as the plan's local method says. */
  vectors: readonly Float32Array[];
  numbers: readonly number[];
}

export interface Improvement {
  weights: Float32Array;
  /** What the next round is given; it is published with the version. */
  memory: readonly Float32Array[];
}

/** A strategy's options, as a task's configuration has them. */
export type StrategyOptions = Readonly<Record<string, number>>;

/** How a strategy is made of its options, none of which is negative. */
export interface StrategyRecipe {
  make: (options: StrategyOptions) => Strategy;
  options: readonly string[];
}

/** Strategies by the name that a task gives. A new one is one file and one row. */
export const strategies: Record<string, StrategyRecipe> = {
  fedAvg: { make: fedAvg, options: ['serverLearningRate'] },
  fedAvgM: { make: fedAvgM, options: ['serverLearningRate', 'serverMomentum'] },
  fedProx: { make: fedProx, options: ['mu', 'serverLearningRate'] },
  fedAdagrad: { make: fedAdagrad, options: ['serverLearningRate', 'beta1', 'tau', 'firstSecondMoment'] },
  fedAdam: { make: fedAdam, options: ['serverLearningRate', 'beta1', 'beta2', 'tau', 'firstSecondMoment'] },
  fedYogi: { make: fedYogi, options: ['serverLearningRate', 'beta1', 'beta2', 'tau', 'firstSecondMoment'] },
  fedNova: { make: fedNova, options: ['serverLearningRate'] },
  scaffold: { make: scaffold, options: ['serverLearningRate', 'agents'] },
  fedBuff: {
    make: fedBuff,
    options: [
      'bufferSize',
      'stalenessMax',
      'exponent',
      'hingeAfter',
      'hingeSlope',
      'serverLearningRate',
      'serverMomentum',
    ],
  },
  fedAsync: { make: fedAsync, options: ['stalenessMax', 'exponent', 'hingeAfter', 'hingeSlope', 'serverLearningRate'] },
  fedDyn: { make: fedDyn, options: ['alpha', 'agents'] },
  qFedAvg: { make: qFedAvg, options: ['q', 'lipschitz'] },
  ditto: { make: ditto, options: ['lambda', 'serverLearningRate'] },
  median: { make: median, options: ['serverLearningRate'] },
  trimmedMean: { make: trimmedMean, options: ['trim', 'serverLearningRate'] },
  krum: { make: krum, options: ['attackers', 'serverLearningRate'] },
  multiKrum: { make: multiKrum, options: ['attackers', 'keep', 'serverLearningRate'] },
  bulyan: { make: bulyan, options: ['attackers', 'serverLearningRate'] },
  geometricMedian: { make: geometricMedian, options: ['smoothing', 'iterations', 'serverLearningRate'] },
  centredClipping: { make: centredClipping, options: ['clipNorm', 'iterations', 'serverLearningRate'] },
  flTrust: { make: flTrust, options: ['serverLearningRate'] },
  normBound: { make: normBound, options: ['normMax', 'serverLearningRate'] },
  adaptiveClipping: {
    make: adaptiveClipping,
    options: ['quantile', 'learningRate', 'firstNorm', 'serverLearningRate'],
  },
  normZeroing: {
    make: normZeroing,
    options: ['quantile', 'learningRate', 'multiplier', 'increment', 'firstNorm', 'serverLearningRate'],
  },
};

/** The strategy of a configuration such as `{ name: 'fedProx', mu: 0.01 }`. Throws ConfigError naming the key. */
export function strategyFrom(config: { name: string } & Record<string, unknown>): Strategy {
  const { name, ...options } = config;
  const recipe = Object.hasOwn(strategies, name) ? strategies[name] : undefined;
  if (recipe === undefined) {
    throw new ConfigError(
      `strategy "${name}" is not known: use one of ${Object.keys(strategies).join(', ')}, or load the file of your own with --strategy`,
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

/** What a file with a strategy of a user's own exports as its default. */
export interface StrategyModule extends StrategyRecipe {
  /** What tasks call it. */
  name: string;
}

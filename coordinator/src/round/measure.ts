import {
  ConfigError,
  evaluationOf,
  parsePlan,
  parseStatisticsPlan,
  type EvaluationPlan,
  type StatisticsPlan,
} from '@commonweight/core';
import { record, requireKeys } from './fields.ts';

/** How agents evaluate: what they measure, and on which share of their examples. */
export interface EvaluationAsked extends EvaluationPlan {
  /** Share that they never train on and measure with; an evaluator measures with all that it has. */
  holdOut: number;
}

const EVALUATION_KEYS = ['loss', 'lossOptions', 'lossGraph', 'metrics', 'holdOut', 'k', 'ignoreIndex', 'sizes'];

/** Checks what a task evaluates by. Throws ConfigError naming the key. */
export function parseEvaluation(value: unknown): EvaluationAsked {
  const given = record(value, 'evaluation');
  requireKeys(given, EVALUATION_KEYS, 'evaluation');
  const { loss, lossGraph, sizes, metrics = ['accuracy'], holdOut, k, ignoreIndex } = given;
  const lossOptions = {
    ...(given['lossOptions'] === undefined ? {} : record(given['lossOptions'], 'evaluation.lossOptions')),
    ...(ignoreIndex === undefined ? {} : { ignoreIndex }),
  };
  // A plan that trains nothing: what is asked is checked as where it comes with a training.
  const plan = parsePlan({
    loss,
    optimizer: { name: 'sgd', learningRate: 1 },
    epochs: 1,
    batchSize: 1,
    evaluation: { metrics, ...(holdOut === undefined ? {} : { holdOut }), ...(k === undefined ? {} : { k }) },
    ...(Object.keys(lossOptions).length === 0 ? {} : { lossOptions }),
    ...(lossGraph === undefined ? {} : { lossGraph }),
    ...(sizes === undefined ? {} : { sizes }),
  });
  if (plan.evaluation === undefined) throw new ConfigError('evaluation.metrics is missing', 'evaluation.metrics');
  return { ...evaluationOf(plan)!, holdOut: plan.evaluation.holdOut };
}

/** Checks what a task counts, as far as that can be without the model, which has the number of classes. Throws ConfigError. */
export function parseStatistics(value: unknown): Partial<StatisticsPlan> {
  const given = record(value, 'statistics');
  parseStatisticsPlan(given, 0);
  return given;
}

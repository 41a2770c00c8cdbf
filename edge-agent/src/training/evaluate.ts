import type { EvaluationPlan, TrainingPlan } from '@commonweight/core';
import type { Dataset } from '../data/dataset.ts';
import type { Evaluator } from './evaluator.ts';

/** How good weights are on some examples, as sums, so that parts of a set add up. */
export interface Evaluation {
  /** Answers that were asked for: one an example, or one a place of a sequence. */
  examples: number;
  /** Answers whose class is the likeliest; undefined where a model does not tell classes apart. */
  correct: number | undefined;
  /** Of the plan's loss. */
  lossSum: number;
}

/** What of a plan decides how a model is measured. */
export type MeasuredBy = Pick<TrainingPlan, 'loss' | 'lossOptions' | 'lossGraph' | 'sizes'>;

/** Measures weights on all examples of a set, as a model with them would be served. */
export async function evaluate(
  graph: Uint8Array,
  weights: Float32Array,
  data: Dataset,
  { plan, evaluator }: { plan: MeasuredBy; evaluator: Evaluator },
): Promise<Evaluation> {
  const isClassifier = plan.loss === 'cross-entropy';
  const { loss, lossOptions, lossGraph, sizes } = plan;
  const asked: EvaluationPlan = {
    loss,
    metrics: isClassifier ? ['loss', 'accuracy'] : ['loss'],
    ...(lossOptions === undefined ? {} : { lossOptions }),
    ...(lossGraph === undefined ? {} : { lossGraph }),
    ...(sizes === undefined ? {} : { sizes }),
  };
  const all = Array.from({ length: data.examples }, (_, index) => index);
  const sums = await evaluator.measure(data, all, { graph, weights, plan: asked });
  if (!isClassifier)
    return { examples: sums.sums('loss', 'count')[0]!, correct: undefined, lossSum: sums.sums('loss', 'sum')[0]! };
  const examples = sums.sums('accuracy', 'count')[0]!;
  // The loss is the mean over examples, whose answers may be several.
  const lossSum = sums.values().loss! * examples;
  return { examples, correct: sums.sums('accuracy', 'right')[0]!, lossSum };
}

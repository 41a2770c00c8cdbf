import {
  evaluationOf,
  invariant,
  seeded,
  type EvaluationGraph,
  type EvaluationOptions,
  type EvaluationPlan,
} from '@commonweight/core';
import { DataError, type Dataset } from '../data/dataset.ts';
import type { Engine } from './engine.ts';
import { Evaluator } from './evaluator.ts';
import type { TrainingJob } from './messages.ts';
import type { Watched } from './train.ts';

/** All indices of a set, in the one order that the first are set aside of. */
export const holdOutOrder = (examples: number): number[] =>
  seeded('hold-out').shuffle(Array.from({ length: examples }, (_, i) => i));

/** The same split in every round, and of a smaller share a part of that of a larger. Throws DataError where there is nothing to set aside. */
export function splitExamples(
  examples: number,
  holdOut: number,
): { train: readonly number[]; held: readonly number[] } {
  const order = holdOutOrder(examples);
  if (examples < 2)
    throw new DataError('there is one example, and the task holds some out to measure with: use more data');
  const count = Math.min(examples - 1, Math.max(1, Math.round(examples * holdOut)));
  return { train: order.slice(count), held: order.slice(0, count) };
}

/** Examples that an agent never trains on, and what it measures with them: the version that it is about to train. */
export class HeldOut {
  readonly #data: Dataset;
  readonly #evaluator: Evaluator;

  constructor(data: Dataset, engine: Engine) {
    this.#data = data;
    this.#evaluator = new Evaluator(engine);
  }

  /** The same split in every round, whatever its seed. Throws DataError where there is nothing to set aside. */
  split(evaluation: (Partial<EvaluationOptions> & { holdOut: number }) | undefined): {
    train: readonly number[];
    held: readonly number[];
  } {
    const { examples } = this.#data;
    if (evaluation !== undefined) return splitExamples(examples, evaluation.holdOut);
    return { train: Array.from({ length: examples }, (_, i) => i), held: [] };
  }

  /** Metrics of weights on what was set aside, by the names that a manifest has. */
  async measure(
    { graph, weights, plan }: Pick<TrainingJob, 'graph' | 'weights' | 'plan'>,
    held: readonly number[],
    watched: Watched = {},
  ): Promise<Record<string, number>> {
    const asked = evaluationOf(plan);
    invariant(asked !== undefined, 'what is set aside is measured');
    const sums = await this.#evaluator.measure(this.#data, held, { graph, weights, plan: asked }, watched);
    return Object.fromEntries(Object.entries(sums.values()).map(([name, value]) => [`base_${name}`, value]));
  }

  /** The sums that metrics are made of, over the examples named, by the names of the graph's outputs. */
  totals(
    weighed: { graph: Uint8Array; weights: Float32Array; plan: EvaluationPlan },
    indices: readonly number[],
    watched: Watched,
  ): Promise<{ graph: EvaluationGraph; sums: Record<string, Float64Array> }> {
    return this.#evaluator.totals(this.#data, indices, weighed, watched);
  }

  /** Lets go of what is loaded. */
  release(): Promise<void> {
    return this.#evaluator.release();
  }
}

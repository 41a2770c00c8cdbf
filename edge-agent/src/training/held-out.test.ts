import { mlp, splitModel, type TrainingPlan } from '@commonweight/core';
import { expect, test } from 'vitest';
import { DataError, labelsOf, subset, type Dataset } from '../data/dataset.ts';
import { loadDataset } from '../data/load-dataset.ts';
import { evaluate } from './evaluate.ts';
import { Evaluator } from './evaluator.ts';
import { HeldOut } from './held-out.ts';
import { openEngine } from './engines/open.ts';
import { LocalTrainer } from './train.ts';

const engine = await openEngine('ort-cpu', { threads: 1 });
const data = await loadDataset('mnist?partition=0/20&seed=1');
const { graph, weights } = splitModel(mlp({ inputs: 784, hidden: [16], outputs: 10, seed: 1 }));
const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.1 },
  epochs: 1,
  batchSize: 32,
  evaluation: { metrics: ['accuracy', 'top-k', 'perplexity'], holdOut: 0.3, k: 3 },
};
const trainOn = (set: Dataset, of = weights) =>
  new LocalTrainer(set, engine).train({ graph, weights: of, plan, seed: 7n });

test('what is set aside is measured, and is the same in every round', async () => {
  const { held, train } = new HeldOut(data, engine).split(plan.evaluation);
  expect(held).toHaveLength(Math.round(0.3 * data.examples));
  expect(new Set([...held, ...train]).size).toBe(data.examples);
  const first = await trainOn(data);
  expect(first.examples).toBe(train.length);
  const second = await trainOn(data, first.weights);
  for (const [result, of] of [
    [first, weights],
    [second, first.weights],
  ] as const) {
    const seen = await evaluate(graph, of, subset(data, held), { plan, evaluator: new Evaluator(engine) });
    expect(result.metrics?.['base_accuracy']).toBeCloseTo(seen.correct! / held.length, 6);
    expect(Math.log(result.metrics!['base_perplexity']!)).toBeCloseTo(seen.lossSum / held.length, 4);
    expect(result.metrics!['base_top-k']).toBeGreaterThanOrEqual(result.metrics!['base_accuracy']!);
  }
  expect(second.metrics!['base_accuracy']).toBeGreaterThan(first.metrics!['base_accuracy']!);
});

test('training never sees what is set aside', async () => {
  const { held } = new HeldOut(data, engine).split(plan.evaluation);
  const labels = labelsOf(data)!;
  for (const index of held) labels[index] = (labels[index]! + 1) % 10;
  const [image, label] = data.columns;
  const relabelled = { ...data, columns: [image!, { ...label!, values: labels }] };
  const [one, other] = [await trainOn(data), await trainOn(relabelled)];
  expect(other.weights).toEqual(one.weights);
  expect(other.metrics).not.toEqual(one.metrics);
});

test('something is set aside of two examples, and nothing can be of one', () => {
  const of = (count: number) =>
    subset(
      data,
      Array.from({ length: count }, (_, i) => i),
    );
  expect(new HeldOut(of(2), engine).split({ metrics: ['accuracy'], holdOut: 0.1 }).held).toHaveLength(1);
  expect(new HeldOut(of(2), engine).split({ metrics: ['accuracy'], holdOut: 0.9 }).held).toHaveLength(1);
  expect(() => new HeldOut(of(1), engine).split({ metrics: ['accuracy'], holdOut: 0.1 })).toThrow(DataError);
  expect(new HeldOut(of(1), engine).split(undefined)).toEqual({ train: [0], held: [] });
});

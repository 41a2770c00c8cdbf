import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildTrainingGraph, layoutOf, readModel, splitModel, type TrainingPlan } from '@commonweight/core';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { openEngine } from '../../edge-agent/src/training/engines/open.ts';

interface Vector {
  /** Base64 of what PyTorch's exporter wrote. */
  model: string;
  inputShape: number[];
  /** Base64 of float32, as all that follows. */
  input: string;
  labelShape: number[];
  labels: number[];
  loss: number;
  gradients: Record<string, string>;
  /** Running statistics after one step. */
  statistics: Record<string, string>;
}

const folder = join(import.meta.dirname, 'gradients');
const names = readdirSync(folder).filter((name) => name.endsWith('.json'));
const vectors = names.map((name) => {
  return [name.slice(0, -5), JSON.parse(readFileSync(join(folder, name), 'utf8')) as Vector] as const;
});

/** A rate of one: a step moves each weight by its gradient. */
const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 1 },
  epochs: 1,
  batchSize: 4,
};

const floats = (text: string): Float32Array => new Float32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer);

function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Math.hypot(...Array.from(a, (value, index) => value - b[index]!));
}

/** As anything can run it, and as the agent's own engine has it written. */
const forms = { plain: {}, 'ort-cpu': (await openEngine('ort-cpu', { threads: 1 })).forms };
const pairs = vectors.flatMap(([name, vector]) =>
  Object.entries(forms).map(([form, own]) => [name, form, vector, own] as const),
);

test.each(pairs)('%s, %s: loss and gradients are those of PyTorch', async (_, __, vector, own) => {
  const { graph, weights } = splitModel(readModel(Buffer.from(vector.model, 'base64')));
  const model = readModel(graph);
  const training = buildTrainingGraph(model, plan, plan.batchSize, own);
  const session = await ort.InferenceSession.create(training.model, { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const integers = (values: ArrayLike<number>, shape: number[]): ort.Tensor =>
    new ort.Tensor('int64', BigInt64Array.from(Array.from(values, BigInt)), shape);
  const input = floats(vector.input);
  const feeds: Record<string, ort.Tensor> = {
    [training.data[0]!.name]:
      training.data[0]!.dtype === 'int64'
        ? integers(input, vector.inputShape)
        : new ort.Tensor('float32', input, vector.inputShape),
    [training.target.name]: integers(vector.labels, vector.labelShape),
    [training.sampleWeights]: new ort.Tensor('float32', new Float32Array(plan.batchSize).fill(1), [plan.batchSize]),
  };
  const specs = layoutOf(model).parameters;
  training.parameters.forEach(({ input: name, shape }, index) => {
    const { offset, length } = specs[index]!;
    feeds[name] = new ort.Tensor('float32', weights.slice(offset, offset + length), shape);
  });
  const results = await session.run(feeds);
  expect(Math.abs(Number(results[training.loss]!.data[0]) - vector.loss)).toBeLessThan(1e-5 * vector.loss);
  const compared = new Set<string>();
  for (const { name, input: own, output } of training.parameters) {
    const before = feeds[own]!.data as Float32Array;
    const after = results[output]!.data as Float32Array;
    const statistic = vector.statistics[name];
    if (statistic !== undefined) {
      const expected = floats(statistic);
      expect(distance(after, expected), name).toBeLessThan(1e-5 * Math.hypot(...expected));
      compared.add(name);
      continue;
    }
    const gradient = before.map((value, index) => value - after[index]!);
    if (vector.gradients[name] === undefined) {
      // Constants of the model that an exporter keeps as tensors: nothing trains them.
      expect(Math.max(...gradient.map(Math.abs)), name).toBe(0);
      continue;
    }
    compared.add(name);
    const expected = floats(vector.gradients[name]);
    // The weights are float32, so that a difference of two of them has their rounding.
    const rounding = 2 ** -23 * Math.hypot(...before);
    expect(distance(expected, gradient), name).toBeLessThan(1e-4 * Math.hypot(...expected) + rounding);
  }
  expect([...compared].sort()).toEqual([...Object.keys(vector.gradients), ...Object.keys(vector.statistics)].sort());
  await session.release();
});

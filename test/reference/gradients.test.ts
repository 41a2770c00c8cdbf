import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildTrainingGraph, layoutOf, readModel, splitModel, type TrainingPlan } from '@commonweight/core';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';

interface Vector {
  /** Base64 of what PyTorch's exporter wrote. */
  model: string;
  inputShape: number[];
  input: number[];
  labelShape: number[];
  labels: number[];
  loss: number;
  gradients: Record<string, number[]>;
}

const { vectors } = JSON.parse(readFileSync(join(import.meta.dirname, 'gradients/vectors.json'), 'utf8')) as {
  vectors: Record<string, Vector>;
};

/** A rate of one: a step moves each weight by its gradient. */
const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 1 },
  epochs: 1,
  batchSize: 4,
};

test.each(Object.entries(vectors))('%s: loss and gradients are those of PyTorch', async (_, vector) => {
  const { graph, weights } = splitModel(readModel(Buffer.from(vector.model, 'base64')));
  const model = readModel(graph);
  const training = buildTrainingGraph(model, plan);
  const session = await ort.InferenceSession.create(training.model, { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const labels = BigInt64Array.from(vector.labels.map(BigInt));
  const feeds: Record<string, ort.Tensor> = {
    [training.data.name]: new ort.Tensor('float32', Float32Array.from(vector.input), vector.inputShape),
    [training.target.name]: new ort.Tensor('int64', labels, vector.labelShape),
    [training.sampleWeights]: new ort.Tensor('float32', new Float32Array(plan.batchSize).fill(1), [plan.batchSize]),
  };
  const specs = layoutOf(model).parameters;
  training.parameters.forEach(({ input, shape }, index) => {
    const { offset, length } = specs[index]!;
    feeds[input] = new ort.Tensor('float32', weights.slice(offset, offset + length), shape);
  });
  const results = await session.run(feeds);
  expect(Math.abs(Number(results[training.loss]!.data[0]) - vector.loss)).toBeLessThan(1e-5 * vector.loss);
  const compared = new Set<string>();
  for (const { name, input, output } of training.parameters) {
    const expected = vector.gradients[name];
    const before = feeds[input]!.data as Float32Array;
    const after = results[output]!.data as Float32Array;
    const gradient = Array.from(before, (value, index) => value - after[index]!);
    if (expected === undefined) {
      // Running statistics and the like: nothing trains them.
      expect(Math.max(...gradient.map(Math.abs)), name).toBe(0);
      continue;
    }
    compared.add(name);
    const size = Math.hypot(...expected);
    const error = Math.hypot(...expected.map((value, index) => value - gradient[index]!));
    // The weights are float32, so that a difference of two of them has their rounding.
    const rounding = 2 ** -23 * Math.hypot(...before);
    expect(error, name).toBeLessThan(1e-4 * size + rounding);
  }
  expect([...compared].sort()).toEqual(Object.keys(vector.gradients).sort());
  await session.release();
});

import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { readModel } from '../onnx/file.ts';
import { layoutOf, splitModel } from '../onnx/parameters.ts';
import { mlp } from '../models/mlp.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { TrainingPlan } from './plan.ts';
import { copying, inStep, stepOfTraining, unrolled, type StepGraph } from './step-graph.ts';
import { buildTrainingGraph } from './training-graph.ts';

const STEPS = 3;
const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'adam', learningRate: 0.01 },
  schedule: { name: 'linear' },
  proximalMu: 0.1,
  epochs: 1,
  batchSize: 4,
};
const { graph, weights } = splitModel(mlp({ inputs: 5, hidden: [6], outputs: 3, seed: 1 }));
const layout = layoutOf(readModel(graph));
const training = buildTrainingGraph(readModel(graph), plan);
const step = stepOfTraining(training);

type Tensors = Record<string, ort.Tensor>;

const tensor = (values: Float32Array, dims: readonly number[]): ort.Tensor => new ort.Tensor('float32', values, dims);

/** Kept values as they are at first: weights and anchors from the model, the optimizer's state at zero. */
function first(): Tensors {
  const kept: Tensors = {};
  for (const { input, shape } of step.kept) kept[input] = tensor(new Float32Array(sizeOf(shape)), shape);
  for (const { name, offset, length, shape } of layout.parameters) {
    const values = weights.slice(offset, offset + length);
    for (const input of [name, `training/${name}/anchor`]) kept[input] = tensor(values, shape);
  }
  return kept;
}

function feeds(of: number): Tensors {
  const labels = BigInt64Array.from({ length: 4 }, (_, row) => BigInt((row + of) % 3));
  const values = Float32Array.from({ length: 20 }, (_, at) => Math.sin(at + of));
  return {
    [training.data[0]!.name]: tensor(values, [4, 5]),
    [training.target.name]: new ort.Tensor('int64', labels, [4]),
    [training.sampleWeights]: tensor(Float32Array.of(1, 1, 1, of === 2 ? 0 : 1), [4]),
    [training.rate!]: tensor(Float32Array.of(1 / (of + 1)), [1]),
  };
}

const session = (of: StepGraph): Promise<ort.InferenceSession> =>
  ort.InferenceSession.create(of.model, { intraOpNumThreads: 1, logSeverityLevel: 3 });

/** Keeps what a run gives for the next one. */
function keep(kept: Tensors, of: StepGraph, results: ort.InferenceSession.OnnxValueMapType): Tensors {
  const next = { ...kept };
  for (const { input, output } of of.kept) if (output !== undefined) next[input] = results[output] as ort.Tensor;
  return next;
}

test('several steps as one graph are what they are one after the other', async () => {
  const one = await session(step);
  let kept = first();
  const losses: number[] = [];
  for (let of = 0; of < STEPS; of++) {
    const results = await one.run({ ...kept, ...feeds(of) });
    losses.push(Number(results[training.loss]!.data[0]));
    kept = keep(kept, step, results);
  }
  const together = unrolled(step, STEPS);
  expect(together.valueBytes).toBe(STEPS * step.valueBytes);
  const named = Array.from({ length: STEPS }, (_, of) =>
    Object.entries(feeds(of)).map(([name, value]) => [inStep(of, name), value] as const),
  );
  const results = await (await session(together)).run({ ...first(), ...Object.fromEntries(named.flat()) });
  const theirs = Array.from({ length: STEPS }, (_, of) => Number(results[inStep(of, training.loss)]!.data[0]));
  theirs.forEach((loss, of) => expect(loss).toBeCloseTo(losses[of]!, 6));
  const after = keep(first(), together, results);
  for (const { input } of step.kept) {
    const [mine, own] = [after[input]!.data as Float32Array, kept[input]!.data as Float32Array];
    mine.forEach((value, at) => expect(value).toBeCloseTo(own[at]!, 6));
  }
});

test('a copying graph gives values out as they went in', async () => {
  const copy = copying([
    { input: 'a', shape: [2, 2] },
    { input: 'b', shape: [] },
  ]);
  const given = { a: tensor(Float32Array.of(1, 2, 3, 4), [2, 2]), b: tensor(Float32Array.of(5), []) };
  const results = await (await session(copy)).run(given);
  expect(copy.kept.map(({ output }) => [...(results[output!]!.data as Float32Array)])).toEqual([[1, 2, 3, 4], [5]]);
});

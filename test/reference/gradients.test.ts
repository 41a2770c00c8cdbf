import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  buildTrainingGraph,
  layoutOf,
  readModel,
  splitModel,
  stepOfTraining,
  type StepForms,
  type TrainingGraph,
  type TrainingPlan,
} from '@commonweight/core';
import type { TypedTensor } from '@commonweight/client-sdk';
import { expect, test } from 'vitest';
import type { Engine } from '../../edge-agent/src/training/engine.ts';
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

const cpu = await openEngine('ort-cpu', { threads: 1 });
const tfjs = await openEngine('tfjs', { threads: 1 });

/** The graph as anything can run it, as the agent's own engine has it written, and differentiated by TensorFlow.js instead of us. */
const ways: readonly { way: string; engine: Engine; forms: StepForms }[] = [
  { way: 'in plain form', engine: cpu, forms: {} },
  { way: 'by ort-cpu', engine: cpu, forms: cpu.forms },
  { way: 'by tfjs', engine: tfjs, forms: tfjs.forms },
];

const pairs = vectors.flatMap(([name, vector]) => ways.map((way) => ({ name, vector, ...way })));

test.each(pairs)('$name $way: loss and gradients are those of PyTorch', async ({ vector, engine, forms }) => {
  const { graph, weights } = splitModel(readModel(Buffer.from(vector.model, 'base64')));
  const model = readModel(graph);
  const training = buildTrainingGraph(model, plan, plan.batchSize, forms);
  const program = await engine.compile(stepOfTraining(training));
  const before = Object.fromEntries(
    layoutOf(model).parameters.map(({ name, offset, length }) => [name, weights.subarray(offset, offset + length)]),
  );
  program.write(before);
  const integers = (values: ArrayLike<number>, dims: number[]): TypedTensor => {
    return { type: 'int64', data: BigInt64Array.from(Array.from(values, BigInt)), dims };
  };
  const input = floats(vector.input);
  const { target, sampleWeights, loss } = training;
  const [data] = training.data as [TrainingGraph['data'][number]];
  const [values] = await program.run([
    {
      [data.name]:
        data.dtype === 'int64'
          ? integers(input, vector.inputShape)
          : { type: 'float32', data: input, dims: vector.inputShape },
      [target.name]: integers(vector.labels, vector.labelShape),
      [sampleWeights]: { type: 'float32', data: new Float32Array(plan.batchSize).fill(1), dims: [plan.batchSize] },
    },
  ]);
  expect(Math.abs(values![loss]![0]! - vector.loss)).toBeLessThan(1e-5 * vector.loss);
  const next = await program.read();
  const compared = new Set<string>();
  for (const { name, input: own } of training.parameters) {
    const [from, after] = [before[name]!, next[own]!];
    const statistic = vector.statistics[name];
    if (statistic !== undefined) {
      const expected = floats(statistic);
      expect(distance(after, expected), name).toBeLessThan(1e-5 * Math.hypot(...expected));
      compared.add(name);
      continue;
    }
    const gradient = from.map((value, index) => value - after[index]!);
    if (vector.gradients[name] === undefined) {
      // Constants of the model that an exporter keeps as tensors: nothing trains them.
      expect(Math.max(...gradient.map(Math.abs)), name).toBe(0);
      continue;
    }
    compared.add(name);
    const expected = floats(vector.gradients[name]);
    // The weights are float32, so that a difference of two of them has their rounding.
    const rounding = 2 ** -23 * Math.hypot(...from);
    expect(distance(expected, gradient), name).toBeLessThan(1e-4 * Math.hypot(...expected) + rounding);
  }
  expect([...compared].sort()).toEqual([...Object.keys(vector.gradients), ...Object.keys(vector.statistics)].sort());
  await program.release();
});

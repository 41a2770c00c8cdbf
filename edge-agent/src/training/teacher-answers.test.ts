import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { logistic, mlp, splitModel, writeModel, type TrainingPlan } from '@commonweight/core';
import { afterEach, expect, test } from 'vitest';
import { arrayDataset, type Column, type Dataset } from '../data/dataset.ts';
import type { EngineName } from './engine.ts';
import { openEngine } from './engines/open.ts';
import type { TrainingJob } from './messages.ts';
import { openTrainer } from './node-trainer.ts';
import { LoadedTeacher } from './teacher-answers.ts';
import { LoadedGraphs, LocalTrainer } from './train.ts';
import { TrainingError, type TeacherSource, type Trainer } from './trainer.ts';

const ROWS = 150;
const on = { engine: 'ort-cpu', budget: { threads: 1, busy: 1 } } as const;
const engineOf = (name: EngineName) => openEngine(name, { threads: 1 });
const trainers: Trainer<string>[] = [];
afterEach(async () => {
  for (const trainer of trainers.splice(0)) await trainer.close();
});

const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.5 },
  epochs: 20,
  batchSize: 32,
  distillation: { temperature: 2, alpha: 0 },
};

/** Rows of three numbers, in another order each time that they are asked, and labels that say nothing. */
const data = (): Dataset =>
  arrayDataset('rows', {
    values: Float32Array.from({ length: ROWS * 3 }, (_, at) => Math.sin(at * at * 7.3)),
    shape: [3],
    labels: new Int32Array(ROWS),
  });

const teacher = writeModel(mlp({ inputs: 3, hidden: [4], outputs: 2, seed: 9 }));

function job(changes: Partial<TrainingJob> = {}): TrainingJob {
  const { graph, weights } = splitModel(logistic({ inputs: 3, outputs: 2, seed: 1 }));
  return { graph, weights, plan, seed: 7n, ...changes };
}

test.each<EngineName>(['ort-cpu', 'ort-web', 'tfjs'])(
  'with %s a student learns what its teacher says of each example, in whichever order they come',
  async (name) => {
    const trainer = new LocalTrainer(data(), await engineOf(name));
    const itself = splitModel(logistic({ inputs: 3, outputs: 2, seed: 5 }));
    const like = writeModel(logistic({ inputs: 3, outputs: 2, seed: 5 }));
    const { weights, loss } = await trainer.train(
      job({ plan: { ...plan, epochs: 200 }, teacher: { key: 'a', onnx: like } }),
    );
    expect(loss).toBeLessThan(1e-4);
    // Of two classes only the difference of the logits is said.
    const difference = (values: Float32Array): number[] => [0, 2, 4].map((at) => values[at]! - values[at + 1]!);
    difference(weights).forEach((value, at) => expect(value).toBeCloseTo(difference(itself.weights)[at]!, 1));
  },
);

test('a teacher that is not given, or does not fit, is an error that says so', async () => {
  const trainer = new LocalTrainer(data(), await engineOf('ort-cpu'));
  await expect(trainer.train(job())).rejects.toThrow('the plan learns from a teacher, and none was given');
  await expect(trainer.train(job({ teacher: { key: 'b' } }))).rejects.toThrow('the teacher is not here any more');
  const images = writeModel(logistic({ inputs: 5, outputs: 2, seed: 5 }));
  await expect(trainer.train(job({ teacher: { key: 'c', onnx: images } }))).rejects.toThrow(
    /an example has 3 values .* takes 5/,
  );
});

test('clients of one simulation share the loaded teacher, each with answers to its own examples', async () => {
  const engine = await engineOf('ort-cpu');
  const [graphs, loaded] = [new LoadedGraphs(engine, 2), new LoadedTeacher(engine)];
  const one = new LocalTrainer(data(), graphs, loaded);
  const { columns, ...rest } = data();
  const [input, label] = columns as [Column, Column];
  const turned = { ...input, values: (input.values as Float32Array).map((value) => -value) };
  const other = new LocalTrainer({ ...rest, columns: [turned, label] }, graphs, loaded);
  const first = await one.train(job({ teacher: { key: 'a', onnx: teacher } }));
  const second = await other.train(job({ teacher: { key: 'a' } }));
  expect(second.weights).not.toEqual(first.weights);
  expect((await one.train(job({ teacher: { key: 'a' } }))).weights).toEqual(first.weights);
  await graphs.release();
  await loaded.release();
});

test('the training process gets the teacher once, and again after it died', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'commonweight-teacher-')), 'rows.csv');
  const rows = Array.from({ length: 40 }, (_, at) => `${Math.sin(at)},${Math.cos(at)},${at % 3},${at % 2}`);
  writeFileSync(file, `a,b,c,label\n${rows.join('\n')}\n`);
  const { trainer } = await openTrainer(`csv:${file}`, on, () => {});
  trainers.push(trainer);
  let reads = 0;
  const source: TeacherSource = {
    key: 'a',
    read: () => {
      reads += 1;
      return Promise.resolve(teacher);
    },
  };
  const first = await trainer.train(job(), 60_000, { teacher: source });
  expect((await trainer.train(job(), 60_000, { teacher: source })).weights).toEqual(first.weights);
  expect(reads).toBe(1);
  // Too little time for anything: the process is ended.
  await expect(trainer.train(job({ plan: { ...plan, epochs: 10_000 } }), 1, { teacher: source })).rejects.toThrow(
    TrainingError,
  );
  expect((await trainer.train(job(), 60_000, { teacher: source })).weights).toEqual(first.weights);
  expect(reads).toBe(2);
});

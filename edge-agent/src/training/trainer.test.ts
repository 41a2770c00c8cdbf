import { logistic, mlp, splitModel, type TrainingPlan } from '@commonweight/core';
import { mkdtempSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { withDropout } from '../../../test/support/with-dropout.ts';
import { DataError } from '../data/dataset.ts';
import type { TrainingJob } from './messages.ts';
import { openTrainer } from './node-trainer.ts';
import { TrainingError, type Trainer } from './trainer.ts';

const on = { engine: 'ort-cpu', budget: { threads: 1, busy: 1 } } as const;
const trainers: Trainer<string>[] = [];
afterEach(async () => {
  for (const trainer of trainers.splice(0)) await trainer.close();
});

async function open(data: string): Promise<{ trainer: Trainer<string>; examples: number }> {
  const opened = await openTrainer(data, on, () => {});
  trainers.push(opened.trainer);
  return opened;
}

const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.1 },
  epochs: 1,
  batchSize: 32,
};
const digits = 'mnist?partition=0/10&seed=1';

function job(changes: Partial<TrainingJob> = {}): TrainingJob {
  const { graph, weights } = splitModel(mlp({ inputs: 784, hidden: [32], outputs: 10, seed: 1 }));
  return { graph, weights, plan, seed: 7n, ...changes };
}

function csv(name: string, rows: readonly string[]): string {
  const file = join(mkdtempSync(join(tmpdir(), 'commonweight-trainer-')), name);
  writeFileSync(file, `a,b,label\n${rows.join('\n')}\n`);
  return file;
}

describe('a training in its own process', () => {
  test('brings the loss down, epoch after epoch', async () => {
    const { trainer, examples } = await open(digits);
    const first = await trainer.train(job(), 60_000);
    const second = await trainer.train(job({ weights: first.weights }), 60_000);
    expect(first.examples).toBe(examples);
    expect(first.steps).toBe(Math.ceil(examples / 32));
    expect(second.loss).toBeLessThan(first.loss);
  });

  test('is refused once the trainer is closed: nobody would end its process', async () => {
    const { trainer } = await open(digits);
    await trainer.close();
    await expect(trainer.train(job(), 60_000)).rejects.toThrow(new TrainingError('the agent was stopped'));
  });

  test('is the same for the same seed, and another for another', async () => {
    const { trainer } = await open(digits);
    const [one, same, other] = [
      await trainer.train(job(), 60_000),
      await trainer.train(job(), 60_000),
      await trainer.train(job({ seed: 8n }), 60_000),
    ];
    expect(same.weights).toEqual(one.weights);
    expect(other.weights).not.toEqual(one.weights);
  });

  test('with dropout drops the same for the same seed', async () => {
    const { trainer } = await open(digits);
    const model = withDropout(mlp({ inputs: 784, hidden: [32], outputs: 10, seed: 1 }));
    const { graph, weights } = splitModel(model);
    const [dropping, same, plain] = [
      await trainer.train(job({ graph, weights, plan: { ...plan, dropout: true } }), 60_000),
      await trainer.train(job({ graph, weights, plan: { ...plan, dropout: true } }), 60_000),
      await trainer.train(job({ graph, weights }), 60_000),
    ];
    expect(same.weights).toEqual(dropping.weights);
    expect(plain.weights).not.toEqual(dropping.weights);
  });

  test('that takes longer than the round is given up, and the next one works', async () => {
    const { trainer } = await open(digits);
    await expect(trainer.train(job({ plan: { ...plan, epochs: 100_000 } }), 300)).rejects.toThrow(
      /took longer than the 300 ms of the round/,
    );
    expect((await trainer.train(job(), 60_000)).steps).toBeGreaterThan(0);
  });

  test('that is stopped ends at once, and the next one begins in the same process meanwhile', async () => {
    const { trainer } = await open(digits);
    const stop = new AbortController();
    const long = expect(
      trainer.train(job({ plan: { ...plan, epochs: 100_000 } }), 60_000, { signal: stop.signal }),
    ).rejects.toThrow(new TrainingError('training was stopped'));
    const process = trainer.pid;
    stop.abort();
    const next = trainer.train(job(), 60_000);
    await long;
    expect((await next).steps).toBeGreaterThan(0);
    expect(trainer.pid).toBe(process);
    await expect(trainer.train(job(), 60_000, { signal: stop.signal })).rejects.toThrow();
  });

  test('that is given up by closing says so', async () => {
    const { trainer } = await open(digits);
    const training = trainer.train(job({ plan: { ...plan, epochs: 100_000 } }), 60_000);
    const refused = expect(training).rejects.toThrow('the agent was stopped');
    await trainer.close();
    await refused;
  });

  test('whose loss is no number is refused, and never becomes an update', async () => {
    const { trainer } = await open(digits);
    const optimizer = { name: 'sgd', learningRate: 1e30 } as const;
    await expect(trainer.train(job({ plan: { ...plan, optimizer } }), 60_000)).rejects.toThrow(
      /the loss became (NaN|Infinity) in epoch 1: lower the learning rate/,
    );
  });

  test('on data that do not fit the model names both sizes', async () => {
    const { trainer } = await open(`csv:${csv('small.csv', ['1,2,0', '3,4,1'])}`);
    await expect(trainer.train(job(), 60_000)).rejects.toThrow(
      /an example has 2 values \(a, b\) and input 'input' \(float\[784\]\) takes 784/,
    );
  });

  test('with a label that the model has no class for names it', async () => {
    const { trainer } = await open(`csv:${csv('labels.csv', ['1,2,0', '3,4,5'])}`);
    const { graph, weights } = splitModel(logistic({ inputs: 2, outputs: 3, seed: 1 }));
    await expect(trainer.train(job({ graph, weights }), 60_000)).rejects.toThrow(
      /a label 5 and the model has 3 classes/,
    );
  });

  test('of a graph that is none is refused with its reason', async () => {
    const { trainer } = await open(digits);
    await expect(trainer.train(job({ graph: Uint8Array.of(1, 2, 3) }), 60_000)).rejects.toThrow(TrainingError);
  });
});

describe('data', () => {
  test('that cannot be read are named when the trainer opens', async () => {
    await expect(openTrainer('csv:/nowhere/data.csv', on, () => {})).rejects.toThrow(DataError);
  });

  test('that went away while the process was down cost that training only', async () => {
    const file = csv('there.csv', ['1,2,0', '3,4,1']);
    const { trainer } = await open(`csv:${file}`);
    const { graph, weights } = splitModel(logistic({ inputs: 2, outputs: 2, seed: 1 }));
    const small = job({ graph, weights });
    await expect(trainer.train(job({ ...small, plan: { ...plan, epochs: 100_000_000 } }), 300)).rejects.toThrow(
      TrainingError,
    );
    renameSync(file, `${file}.away`);
    await expect(trainer.train(small, 60_000)).rejects.toThrow(DataError);
    renameSync(`${file}.away`, file);
    expect((await trainer.train(small, 60_000)).examples).toBe(2);
  });
});

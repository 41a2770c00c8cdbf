import { readFileSync } from 'node:fs';
import { mlp, splitModel, type TrainingPlan } from '@commonweight/core';
import { expect, test } from 'vitest';
import { openTrainer } from './node-trainer.ts';

const MIB = 2 ** 20;
const STEPS = 10_000;

/** Resident bytes of a process. */
const residentBytes = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;

test('ten thousand steps take no more memory than those before', { timeout: 600_000 }, async () => {
  const on = { engine: 'ort-cpu', budget: { threads: 1, busy: 1 } } as const;
  const { trainer, examples } = await openTrainer('mnist?partition=0/10&seed=1', on, () => {});
  try {
    const batchSize = 8;
    const epochs = Math.ceil(STEPS / Math.ceil(examples / batchSize));
    const optimizer = { name: 'sgd', learningRate: 0.001, momentum: 0.9 } as const;
    const plan: TrainingPlan = { loss: 'cross-entropy', optimizer, epochs, batchSize };
    // Every step makes 400 kB of weights and state anew: 4 GB in all, of which a hundredth would show.
    const job = { ...splitModel(mlp({ inputs: 784, hidden: [64], outputs: 10, seed: 1 })), seed: 1n };
    // Until then garbage is let lie.
    await trainer.train({ ...job, plan: { ...plan, epochs: Math.ceil(epochs / 2) } }, 600_000);
    const before = residentBytes(trainer.pid!);
    const { steps } = await trainer.train({ ...job, plan }, 600_000);
    expect(steps).toBeGreaterThanOrEqual(STEPS);
    const grown = (residentBytes(trainer.pid!) - before) / MIB;
    console.log(`${steps} steps: resident memory grew by ${grown.toFixed(1)} MiB`);
    expect(grown).toBeLessThan(38);
  } finally {
    await trainer.close();
  }
});

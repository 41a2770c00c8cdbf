import { addRanges, cnn, splitModel, type TrainingPlan } from '@commonweight/core';
import { expect, test } from 'vitest';
import { arrayDataset } from '../data/dataset.ts';
import { EngineError, type EngineName } from './engine.ts';
import { openEngine } from './engines/open.ts';
import { LocalTrainer } from './train.ts';

const ROWS = 96;
const images = arrayDataset('images', {
  values: Float32Array.from({ length: ROWS * 64 }, (_, at) => Math.sin(at * 0.37) + (Math.floor(at / 64) % 2)),
  shape: [1, 8, 8],
  labels: Int32Array.from({ length: ROWS }, (_, row) => row % 2),
});
const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.1 },
  epochs: 4,
  batchSize: 16,
  quantizationAware: { weights: 4, activations: 8 },
};
const sizes = { height: 8, width: 8, channels: 1, filters: [4], kernel: 3, dense: 8, outputs: 2, seed: 1 };
const job = { ...splitModel(addRanges(cnn(sizes))), plan, seed: 7n };

test('rounding in training is the same on every engine that has its gradients written', async () => {
  const trained = async (name: EngineName) =>
    new LocalTrainer(images, await openEngine(name, { threads: 1 })).train(job);
  const [cpu, web] = [await trained('ort-cpu'), await trained('ort-web')];
  expect(cpu.loss).toBeLessThan(0.5);
  expect(web.loss).toBeCloseTo(cpu.loss, 2);
});

test('an engine that takes gradients by itself says that it cannot, so that another one trains', async () => {
  const trainer = new LocalTrainer(images, await openEngine('tfjs', { threads: 1 }));
  await expect(trainer.train(job)).rejects.toThrow(EngineError);
  await expect(trainer.train(job)).rejects.toThrow('ort-cpu trains for few bits');
});

import { expect, test } from 'vitest';
import { ConfigError } from '../errors.ts';
import { parsePlan } from './plan.ts';

const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 };

test('a plan read from JSON is the plan', () => {
  const full = {
    ...plan,
    optimizer: { name: 'adamw', learningRate: 0.01, beta1: 0.8, weightDecay: 0.1 },
    proximalMu: 0.1,
    weightDecay: 0.001,
    clip: { value: 1, norm: 5 },
    schedule: { name: 'cosine', warmUpSteps: 10, floor: 0.1 },
    lossOptions: { labelSmoothing: 0.1, classWeights: [1, 2], ignoreIndex: -100 },
    evaluation: { metrics: ['accuracy', 'f1'], holdOut: 0.2, k: 3 },
    dropout: true,
  };
  expect([parsePlan(plan), parsePlan(full)]).toEqual([plan, full]);
});

test.each([
  ['loss', { ...plan, loss: 'hinge' }],
  ['epochs', { ...plan, epochs: 0 }],
  ['batchSize', { ...plan, batchSize: 1.5 }],
  ['epoch', { ...plan, epoch: 1 }],
  ['proximalMu', { ...plan, proximalMu: -1 }],
  ['optimizer', { ...plan, optimizer: 'sgd' }],
  ['optimizer.name', { ...plan, optimizer: { name: 'lion' } }],
  ['optimizer.learningRate', { ...plan, optimizer: { name: 'sgd' } }],
  ['optimizer.beta1', { ...plan, optimizer: { name: 'sgd', learningRate: 0.1, beta1: 0.5 } }],
  ['optimizer.momentum', { ...plan, optimizer: { name: 'sgd', learningRate: 0.1, momentum: 1 } }],
  ['weightDecay', { ...plan, weightDecay: -1 }],
  ['clip.norm', { ...plan, clip: { norm: 0 } }],
  ['clip.size', { ...plan, clip: { size: 1 } }],
  ['schedule.name', { ...plan, schedule: { name: 'sawtooth' } }],
  ['schedule.floor', { ...plan, schedule: { name: 'step', floor: 0.5 } }],
  ['schedule.everySteps', { ...plan, schedule: { name: 'step', everySteps: 0 } }],
  ['lossOptions.delta', { ...plan, lossOptions: { delta: 1 } }],
  ['lossOptions.labelSmoothing', { ...plan, lossOptions: { labelSmoothing: 1 } }],
  ['lossOptions.classWeights', { ...plan, lossOptions: { classWeights: [1, -1] } }],
  ['dropout', { ...plan, dropout: 0.5 }],
  ['evaluation.metrics', { ...plan, evaluation: { metrics: ['mae'] } }],
  ['evaluation.metrics', { ...plan, evaluation: { metrics: [] } }],
  ['evaluation.holdOut', { ...plan, evaluation: { metrics: ['accuracy'], holdOut: 1 } }],
  ['evaluation.k', { ...plan, evaluation: { metrics: ['top-k'], k: 0 } }],
  ['plan', null],
])('a fault in %s is named', (key, value) => {
  const parse = (): unknown => parsePlan(value);
  expect(parse).toThrow(ConfigError);
  expect(parse).toThrow(expect.objectContaining({ key }));
});

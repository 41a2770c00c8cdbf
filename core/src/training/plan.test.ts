import { expect, test } from 'vitest';
import { ConfigError } from '../errors.ts';
import { parsePlan } from './plan.ts';

const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 };

test('a plan read from JSON is the plan', () => {
  const full = { ...plan, optimizer: { name: 'adam', learningRate: 0.01, beta1: 0.8 }, proximalMu: 0.1 };
  expect([parsePlan(plan), parsePlan(full)]).toEqual([plan, full]);
});

test.each([
  ['loss', { ...plan, loss: 'hinge' }],
  ['epochs', { ...plan, epochs: 0 }],
  ['batchSize', { ...plan, batchSize: 1.5 }],
  ['epoch', { ...plan, epoch: 1 }],
  ['proximalMu', { ...plan, proximalMu: -1 }],
  ['optimizer', { ...plan, optimizer: 'sgd' }],
  ['optimizer.name', { ...plan, optimizer: { name: 'rmsprop' } }],
  ['optimizer.learningRate', { ...plan, optimizer: { name: 'sgd' } }],
  ['optimizer.beta1', { ...plan, optimizer: { name: 'sgd', learningRate: 0.1, beta1: 0.5 } }],
  ['optimizer.momentum', { ...plan, optimizer: { name: 'sgd', learningRate: 0.1, momentum: 1 } }],
  ['plan', null],
])('a fault in %s is named', (key, value) => {
  const parse = (): unknown => parsePlan(value);
  expect(parse).toThrow(ConfigError);
  expect(parse).toThrow(expect.objectContaining({ key }));
});

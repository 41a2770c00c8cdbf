/** What every engine owes: the weights that ONNX Runtime's CPU provider comes to, whatever a plan asks for. */
import { cnn, mlp, splitModel, type ModelProto, type TrainingPlan } from '@commonweight/core';
import { afterAll, describe, expect, test } from 'vitest';
import type { EngineName } from '../../edge-agent/src/training/engine.ts';
import { EngineOrder } from '../../edge-agent/src/training/engines/engine-order.ts';
import type { TrainingJob, TrainingResult } from '../../edge-agent/src/training/messages.ts';
import { startProcess } from '../../edge-agent/src/training/node-trainer.ts';
import { Trainer } from '../../edge-agent/src/training/trainer.ts';
import { withDropout } from '../support/with-dropout.ts';

const dense = mlp({ inputs: 784, hidden: [16, 8], outputs: 10, seed: 1 });
const pooled = cnn({ filters: [3, 4], kernel: 3, dense: 12, seed: 1 });
const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.1 },
  epochs: 2,
  // Of 48 or so examples, so that the last batch is a part of one.
  batchSize: 20,
};

const cases: Readonly<Record<string, { model: ModelProto; plan: Partial<TrainingPlan>; job?: Partial<TrainingJob> }>> =
  {
    'dense layers, plainly': { model: dense, plan: {} },
    'convolutions and pooling': {
      model: pooled,
      plan: { optimizer: { name: 'sgd', learningRate: 0.05, momentum: 0.9 } },
    },
    'convolutions whose filters fill blocks, several steps at a time': {
      model: cnn({ filters: [16, 16], kernel: 3, dense: 12, seed: 1 }),
      plan: { batchSize: 4 },
    },
    'Adam with a schedule, clipping, a proximal term and decay': {
      model: dense,
      plan: {
        optimizer: { name: 'adamw', learningRate: 0.01, epsilon: 1e-4 },
        schedule: { name: 'cosine', warmUpSteps: 2, floor: 0.1 },
        clip: { value: 0.05, norm: 0.2 },
        proximalMu: 0.1,
        weightDecay: 0.01,
      },
    },
    'dropout, smoothing and weights of classes': {
      model: withDropout(dense),
      plan: {
        dropout: true,
        lossOptions: { labelSmoothing: 0.1, classWeights: [1, 2, 1, 1, 1, 1, 1, 1, 0.5, 1] },
        optimizer: { name: 'nesterov', learningRate: 0.05 },
      },
    },
    'a correction, and the loss of the base': {
      model: dense,
      plan: { optimizer: { name: 'rmsprop', learningRate: 0.001, epsilon: 1e-3 } },
      job: { correction: new Float32Array(splitModel(dense).weights.length).fill(0.01), needsBaseLoss: true },
    },
    'what is measured before': {
      model: dense,
      plan: { evaluation: { metrics: ['accuracy', 'perplexity'], holdOut: 0.2 } },
    },
  };

/** A round that no training here is to fill: software that plays a GPU takes its time. */
const ROUND_MS = 900_000;

/** `elsewhere`: operators that the engine is known to lack. */
export function runTrainingEngineContract(engine: EngineName, elsewhere: readonly string[] = []): void {
  const trainers = new Map<EngineName, Promise<Trainer<string>>>();
  const opened = (name: EngineName): Promise<Trainer<string>> => {
    const known = trainers.get(name) ?? open(name);
    trainers.set(name, known);
    return known;
  };
  afterAll(async () => {
    for (const trainer of trainers.values()) await (await trainer).close();
  });

  describe(`${engine} trains as ort-cpu does`, () => {
    test.each(Object.entries(cases))('%s', { timeout: ROUND_MS }, async (_, { model, plan: changes, job: more }) => {
      const job: TrainingJob = { ...splitModel(model), plan: { ...plan, ...changes }, seed: 7n, ...more };
      const run = async (name: EngineName): Promise<TrainingResult> => (await opened(name)).train(job, ROUND_MS);
      const [own, reference] = [await run(engine), await run('ort-cpu')];
      expect(own.engine).toBe(engine);
      expect(own.elsewhere).toEqual(elsewhere);
      expect(own.steps).toBe(reference.steps);
      expect(own.loss).toBeCloseTo(reference.loss, 4);
      if (reference.baseLoss !== undefined) expect(own.baseLoss).toBeCloseTo(reference.baseLoss, 4);
      for (const [name, value] of Object.entries(reference.metrics ?? {}))
        expect(own.metrics?.[name]).toBeCloseTo(value, 3);
      expect(worst(own.weights, reference.weights)).toBeLessThan(2e-4);
      // Else a training that does nothing would do.
      expect(worst(own.weights, job.weights)).toBeGreaterThan(1e-3);
    });
  });
}

async function open(engine: EngineName): Promise<Trainer<string>> {
  const trainer = new Trainer({
    data: 'mnist?partition=0/180&by=iid&seed=1',
    engines: new EngineOrder([engine]),
    budget: { threads: 1, busy: 1 },
    start: startProcess,
    warn: () => {},
    stallMs: ROUND_MS,
  });
  await trainer.open();
  return trainer;
}

const worst = (a: Float32Array, b: Float32Array): number =>
  a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0);

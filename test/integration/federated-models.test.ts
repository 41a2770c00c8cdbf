/**
 * Models as PyTorch exports them, each trained by two agents and, for comparison, by one who has the data of both. One local step a round
 * over batches of one size: the mean of the two agents' steps is the step along the mean of their gradients, and that is the gradient of
 * the loss over all examples (McMahan et al. 2017, FedSGD). What is left is rounding: of float32 sums in another order, and of updates on
 * their grid. BatchNorm in training mode is the exception: each agent normalises by its own examples, so the whole is compared with
 * taking both halves by themselves, and only roughly with one batch of all.
 */
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { contractOf, readModel, splitModel, type ModelProto, type TrainingPlan } from '@commonweight/core';
import { LocalTrainer, openEngine, subset, type Dataset } from '@commonweight/edge-agent';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Evaluator } from '../../edge-agent/src/training/evaluator.ts';
import { evaluate } from '../../edge-agent/src/training/evaluate.ts';
import { runSimulation } from '../../cli/src/simulate/run-simulation.ts';
import { taskConfig } from '../../cli/src/task/task-flags.ts';
import { adminOf } from '../support/admin.ts';
import { commonweight, temporaryFolder, until, type Program } from '../support/processes.ts';

const ROUNDS = 6;
/** Of the loss, where only rounding differs. */
const LOSS_TOLERANCE = 1e-5;
/** The same of the ResNet-18, whose last norms see one pixel of four examples and blow rounding up. */
const SMALL_NORM_TOLERANCE = 1e-4;
/** Of the way that the weights went. */
const WAY_TOLERANCE = 1e-3;
/** Of the loss, where each agent normalises by its own four examples instead of all eight. */
const NORM_TOLERANCE = 0.1;

interface Vector {
  model: string;
  inputShape: number[];
  input: string;
  labelShape: number[];
  labels: number[];
  statistics: Record<string, string>;
}

const vectorsAt = join(import.meta.dirname, '../reference/gradients');
const names = readdirSync(vectorsAt).flatMap((file) => (file.endsWith('.json') ? [file.slice(0, -5)] : []));
const engine = await openEngine('ort-cpu', { threads: 1 });
const folder = temporaryFolder('federated-models');

/** The GPT's logits are large to begin with, and the ResNet-18 blows rounding up more with larger steps. */
const learningRates: Readonly<Record<string, number>> = { gpt: 0.002, resnet18: 0.0005 };

interface Case {
  model: ModelProto;
  data: Dataset;
  /** Whether statistics of the batch are part of the model. */
  hasBatchNorm: boolean;
  learningRate: number;
}

/** A model with eight examples: those of its vector, and as many that are made of them. */
function caseOf(name: string): Case {
  const vector = JSON.parse(readFileSync(join(vectorsAt, `${name}.json`), 'utf8')) as Vector;
  const model = readModel(Buffer.from(vector.model, 'base64'));
  const [input] = contractOf(model).inputs;
  const given = new Float32Array(new Uint8Array(Buffer.from(vector.input, 'base64')).buffer);
  // Numbers that are a little different; of tokens, the same ones in another order.
  const more = given.map((value, index) =>
    input!.dtype === 'int64' ? given[given.length - 1 - index]! : value * 0.8 + 0.1 * Math.sin(index),
  );
  const examples = 2 * vector.inputShape[0]!;
  const columns = [
    { name: input!.name, values: Float32Array.from([...given, ...more]), shape: vector.inputShape.slice(1) },
    {
      name: 'label',
      values: Int32Array.from([...vector.labels, ...vector.labels.toReversed()]),
      shape: vector.labelShape.slice(1),
    },
  ];
  return {
    model,
    data: { source: name, examples, columns, label: ['label'] },
    hasBatchNorm: Object.keys(vector.statistics).length > 0,
    learningRate: learningRates[name] ?? 0.05,
  };
}

const planOf = (learningRate: number, batchSize: number, epochs: number): TrainingPlan => ({
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate },
  epochs,
  batchSize,
});

const halves = (data: Dataset): Dataset[] =>
  [0, 1].map((part) =>
    subset(
      data,
      [0, 1, 2, 3].map((index) => part * 4 + index),
    ),
  );

/** Steps over all examples at once. */
async function centrally({ model, data, learningRate }: Case): Promise<Float32Array> {
  const { graph, weights } = splitModel(model);
  const plan = planOf(learningRate, data.examples, ROUNDS);
  return (await new LocalTrainer(data, engine).train({ graph, weights, plan, seed: 1n })).weights;
}

/** Steps along the mean of two halves, each with statistics of its own. */
async function byHalves({ model, data, learningRate }: Case): Promise<Float32Array> {
  const { graph, weights: first } = splitModel(model);
  const trainers = halves(data).map((half) => new LocalTrainer(half, engine));
  let weights = first;
  for (let round = 0; round < ROUNDS; round++) {
    const [one, other] = await Promise.all(
      trainers.map((trainer) => trainer.train({ graph, weights, plan: planOf(learningRate, 4, 1), seed: 1n })),
    );
    weights = one!.weights.map((value, index) => (value + other!.weights[index]!) / 2);
  }
  return weights;
}

async function lossOf({ model, data }: Case, weights: Float32Array): Promise<number> {
  const evaluator = new Evaluator(engine);
  const { lossSum, examples } = await evaluate(splitModel(model).graph, weights, data, {
    plan: { loss: 'cross-entropy' },
    evaluator,
  });
  await evaluator.release();
  return lossSum / examples;
}

const distance = (a: Float32Array, b: Float32Array): number =>
  Math.hypot(...a.map((value, index) => value - b[index]!));

/** The claim: what was federated is what was done centrally. */
async function expectSame(one: Case, federated: Float32Array): Promise<void> {
  const { weights: first } = splitModel(one.model);
  const reference = one.hasBatchNorm ? await byHalves(one) : await centrally(one);
  const [before, own, theirs] = [await lossOf(one, first), await lossOf(one, federated), await lossOf(one, reference)];
  // Running statistics follow slowly, so that with them the loss of a version may rise at first.
  if (!one.hasBatchNorm) expect(own).toBeLessThan(before);
  const tolerance = one.data.source === 'resnet18' ? SMALL_NORM_TOLERANCE : LOSS_TOLERANCE;
  expect(Math.abs(own - theirs) / theirs).toBeLessThan(tolerance);
  expect(distance(federated, reference)).toBeLessThan(WAY_TOLERANCE * distance(reference, first));
  if (!one.hasBatchNorm) return;
  const together = await lossOf(one, await centrally(one));
  expect(Math.abs(own - together) / together).toBeLessThan(NORM_TOLERANCE);
}

const flags = (learningRate: number) => ({ model: 'model', epochs: 1, batch: 4, learningRate, encoding: 'float32' });

describe('in one process', () => {
  test.each(names)('%s is trained by two clients as by one who has all the data', async (name) => {
    const one = caseOf(name);
    const { weights, results } = await runSimulation({
      settings: {
        data: name,
        test: name,
        model: name,
        clients: 2,
        fraction: 1,
        split: { by: 'iid' },
        rounds: ROUNDS,
        seed: 1,
        evaluateEvery: ROUNDS,
        task: taskConfig(flags(one.learningRate)),
      },
      model: one.model,
      train: one.data,
      test: one.data,
      parts: [Int32Array.of(0, 1, 2, 3), Int32Array.of(4, 5, 6, 7)],
      threads: 1,
    });
    expect(results.rounds.map(({ updates, refused }) => [updates, refused])).toEqual(
      Array.from({ length: ROUNDS }, () => [2, 0]),
    );
    expect(results.rounds.at(-1)!.loss).toBeLessThan(results.rounds[0]!.loss);
    await expectSame(one, weights);
  });
});

describe('with a coordinator and agents in processes of their own', () => {
  let coordinator: RunningCoordinator;
  const programs: Program[] = [];

  beforeAll(async () => {
    coordinator = await startCoordinator({ dataDir: join(folder, 'data'), grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  });
  afterAll(async () => {
    for (const program of programs.reverse()) await program.end('SIGTERM');
    await coordinator.close();
    await rm(folder, { recursive: true });
  });

  /** The values of an example, nested as its shape says. */
  function nested(values: readonly number[], shape: readonly number[]): unknown {
    const [size = 1, ...rest] = shape;
    if (shape.length === 0) return values[0];
    const each = values.length / size;
    return Array.from({ length: size }, (_, index) => nested(values.slice(index * each, (index + 1) * each), rest));
  }

  function written(name: string, part: number, data: Dataset): string {
    const rows = Array.from({ length: data.examples }, (_, index) =>
      Object.fromEntries(
        data.columns.map(({ name: column, values, shape }) => {
          const size = shape.reduce((product, one) => product * one, 1);
          const own = Array.from(values as Float32Array).slice(index * size, (index + 1) * size);
          return [column, nested(own, shape)];
        }),
      ),
    );
    const file = join(folder, `${name}${part}.jsonl`);
    writeFileSync(file, rows.map((row) => JSON.stringify(row)).join('\n'));
    return file;
  }

  // Tokens with a label a place, and BatchNorm in training mode.
  test.each(['gpt', 'mobilenetv2'])('%s', async (name) => {
    const one = caseOf(name);
    const model = join(folder, `${name}.onnx`);
    const vector = JSON.parse(readFileSync(join(vectorsAt, `${name}.json`), 'utf8')) as Vector;
    writeFileSync(model, Buffer.from(vector.model, 'base64'));
    const url = `grpc://127.0.0.1:${coordinator.grpcPort}`;
    const imported = commonweight('model', 'import', model, '--coordinator', url);
    expect(await once(imported.child, 'exit')).toEqual([0, null]);
    const admin = adminOf(coordinator.grpcPort);
    await admin.createTask(name, {
      ...taskConfig(flags(one.learningRate)),
      model: name,
      rounds: ROUNDS,
      cohort: { min: 2, max: 2 },
    });
    await admin.startTask(name);
    for (const [part, half] of halves(one.data).entries()) {
      const id = `${name}-${part}`;
      const at = ['--coordinator', url, '--dir', join(folder, id), '--task', name];
      programs.push(commonweight('agent', '--id', id, '--data', `jsonl:${written(name, part, half)}`, ...at));
    }
    await until(
      'the last round',
      90_000,
      async () => (await admin.task(name)).state === 'finished',
      () => programs.map((p) => p.output()).join('\n'),
    );
    admin.close();
    const { manifest, weights } = await newest(name);
    expect(manifest).toBe(BigInt(ROUNDS + 1));
    await expectSame(one, weights);
  });

  async function newest(name: string): Promise<{ manifest: bigint; weights: Float32Array }> {
    const file = join(folder, `${name}-trained.onnx`);
    const exported = commonweight(
      'model',
      'export',
      name,
      file,
      '--coordinator',
      `grpc://127.0.0.1:${coordinator.grpcPort}`,
    );
    expect(await once(exported.child, 'exit')).toEqual([0, null]);
    const version = /version (\d+) of/.exec(exported.output())?.[1] ?? '0';
    return { manifest: BigInt(version), weights: splitModel(readModel(readFileSync(file))).weights };
  }
});

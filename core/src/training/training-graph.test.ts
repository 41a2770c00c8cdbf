import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { fedAvg2nn, mlp } from '../models/mlp.ts';
import { cnn, fedAvgCnn } from '../models/cnn.ts';
import { NotTrainableError } from '../onnx/errors.ts';
import { readModel } from '../onnx/file.ts';
import type { ModelProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { layoutOf, splitModel } from '../onnx/parameters.ts';
import { floatTensor } from '../onnx/tensor-data.ts';
import { pruneWeights } from '../prune/prune-weights.ts';
import { seeded } from '../random/stream.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { TrainingPlan } from './plan.ts';
import { buildTrainingGraph } from './training-graph.ts';
import type { TrainingGraph } from './training-graph.ts';

const sgd: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.1 },
  epochs: 1,
  batchSize: 6,
};

type Step = (weights?: Float32Array) => Promise<number>;
type Feeds = Record<string, ort.Tensor>;

function zerosOf(shape: readonly number[]): ort.Tensor {
  return new ort.Tensor('float32', new Float32Array(sizeOf(shape)), shape);
}

/** Trains on one random batch over and over, as an engine would. */
async function start(
  model: ModelProto,
  plan: TrainingPlan,
): Promise<{ step: Step; feeds: Feeds; training: TrainingGraph }> {
  const { graph, weights } = splitModel(model);
  const split = readModel(graph);
  const training = buildTrainingGraph(split, plan);
  const session = await ort.InferenceSession.create(training.model, { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const random = seeded(7);
  const floats = (shape: readonly number[], next: () => number): ort.Tensor =>
    new ort.Tensor('float32', Float32Array.from({ length: sizeOf(shape) }, next), shape);
  const feeds: Feeds = {
    ...Object.fromEntries(training.data.map(({ name, shape }) => [name, floats(shape, () => random.normal())])),
    [training.target.name]:
      training.target.dtype === 'int64'
        ? new ort.Tensor(
            'int64',
            BigInt64Array.from({ length: plan.batchSize }, () => BigInt(random.integer(3))),
            [plan.batchSize],
          )
        : floats(training.target.shape, () => random.integer(2)),
    [training.sampleWeights]: floats([plan.batchSize], () => 1),
  };
  const specs = layoutOf(split).parameters;
  training.parameters.forEach(({ input, shape }, index) => {
    const { offset, length } = specs[index]!;
    feeds[input] = new ort.Tensor('float32', weights.slice(offset, offset + length), shape);
  });
  for (const { input, shape } of training.state) feeds[input] = zerosOf(shape);
  for (const { input, parameter } of training.anchors) feeds[input] = feeds[parameter]!;
  const step: Step = async (sampleWeights) => {
    if (sampleWeights !== undefined) {
      feeds[training.sampleWeights] = new ort.Tensor('float32', sampleWeights, [plan.batchSize]);
    }
    const results = await session.run(feeds);
    for (const { input, output } of [...training.parameters, ...training.state]) feeds[input] = results[output]!;
    return Number(results[training.loss]!.data[0]);
  };
  return { step, feeds, training };
}

const small = (): ModelProto => mlp({ inputs: 5, hidden: [8], outputs: 3, seed: 1 });
const optimizers: Record<string, Partial<TrainingPlan>> = {
  'plain SGD': {},
  'SGD with momentum': { optimizer: { name: 'sgd', learningRate: 0.05, momentum: 0.9 } },
  Adam: { optimizer: { name: 'adam', learningRate: 0.02 } },
  'Nesterov momentum': { optimizer: { name: 'nesterov', learningRate: 0.05 } },
  AdamW: { optimizer: { name: 'adamw', learningRate: 0.02 } },
  Adagrad: { optimizer: { name: 'adagrad', learningRate: 0.2 } },
  RMSprop: { optimizer: { name: 'rmsprop', learningRate: 0.02 } },
  'a proximal term': { proximalMu: 0.01 },
  'weight decay': { weightDecay: 1e-4 },
  'bounded gradients': { clip: { value: 1, norm: 1 }, optimizer: { name: 'sgd', learningRate: 0.5 } },
  'smoothed labels of weighed classes': {
    lossOptions: { classWeights: [1, 2, 1], ignoreIndex: -100 },
    optimizer: { name: 'sgd', learningRate: 0.2 },
  },
};

test.each(Object.entries(optimizers))('ONNX Runtime runs the graph and %s lowers the loss', async (_, change) => {
  const { step } = await start(small(), { ...sgd, ...change });
  const first = await step();
  let last = first;
  for (let index = 0; index < 60; index++) last = await step();
  expect(last).toBeLessThan(first / 3);
});

test.each(['mse', 'mae', 'huber', 'bce-with-logits'] as const)('%s falls', async (loss) => {
  const { step } = await start(small(), { ...sgd, loss, optimizer: { name: 'adam', learningRate: 0.02 } });
  const first = await step();
  let last = first;
  for (let index = 0; index < 80; index++) last = await step();
  expect(last).toBeLessThan(first / 3);
});

test('a convolutional model learns', async () => {
  const model = cnn({ height: 8, width: 8, filters: [3, 4], kernel: 3, dense: 12, outputs: 3, seed: 3 });
  const { step } = await start(model, { ...sgd, optimizer: { name: 'sgd', learningRate: 0.2 } });
  const first = await step();
  let last = first;
  for (let index = 0; index < 60; index++) last = await step();
  expect(last).toBeLessThan(first / 3);
});

test('one SGD step moves every weight by the rate times the finite-difference gradient', async () => {
  const plan: TrainingPlan = { ...sgd, optimizer: { name: 'sgd', learningRate: 0.01 } };
  for (const model of [small(), cnn({ height: 4, width: 4, filters: [2], kernel: 3, dense: 4, outputs: 3, seed: 3 })]) {
    const { step, feeds, training } = await start(model, plan);
    const before = { ...feeds };
    await step();
    const after = { ...feeds };
    for (const { input } of training.parameters) {
      const values = before[input]!.data as Float32Array;
      const index = values.length >> 1;
      const losses: number[] = [];
      for (const change of [1e-2, -1e-2]) {
        Object.assign(feeds, before);
        const moved = values.slice();
        moved[index] = moved[index]! + change;
        feeds[input] = new ort.Tensor('float32', moved, before[input]!.dims);
        losses.push(await step());
      }
      const slope = (losses[0]! - losses[1]!) / 2e-2;
      const movement = (values[index]! - Number(after[input]!.data[index])) / 0.01;
      expect(movement).toBeCloseTo(slope, 2);
    }
  }
});

test('gradients stay within the bounds of the plan', async () => {
  const moved = async (clip: TrainingPlan['clip']): Promise<number[]> => {
    const { step, feeds, training } = await start(small(), {
      ...sgd,
      optimizer: { name: 'sgd', learningRate: 1 },
      ...(clip === undefined ? {} : { clip }),
    });
    const before = { ...feeds };
    await step();
    return training.parameters.flatMap(({ input }) =>
      [...(before[input]!.data as Float32Array)].map((value, i) => value - Number(feeds[input]!.data[i])),
    );
  };
  const norm = (values: readonly number[]): number => Math.hypot(...values);
  const free = await moved(undefined);
  const held = await moved({ norm: norm(free) / 4 });
  expect(norm(held)).toBeCloseTo(norm(free) / 4, 4);
  held.forEach((value, i) => expect(value).toBeCloseTo(free[i]! / 4, 5));
  expect(await moved({ norm: 2 * norm(free) })).toEqual(free);
  const bound = Math.max(...free.map(Math.abs)) / 3;
  for (const [i, value] of (await moved({ value: bound })).entries()) {
    expect(value).toBeCloseTo(Math.max(-bound, Math.min(bound, free[i]!)), 5);
  }
});

test('class weights count as repeating the examples would, and ignored targets count for nothing', async () => {
  const lossOf = async (plan: Partial<TrainingPlan>, labels: readonly number[]): Promise<number> => {
    const { step, feeds, training } = await start(small(), { ...sgd, ...plan });
    feeds[training.target.name] = new ort.Tensor('int64', BigInt64Array.from(labels.map(BigInt)), [6]);
    return step();
  };
  const of = async (label: number): Promise<number> =>
    lossOf(
      {},
      Array.from({ length: 6 }, () => label),
    );
  const each = [await of(0), await of(1), await of(2)];
  const plain = await lossOf({}, [0, 1, 2, 0, 1, 2]);
  expect(await lossOf({ lossOptions: { classWeights: [2, 2, 2] } }, [0, 1, 2, 0, 1, 2])).toBeCloseTo(plain, 5);
  expect(
    await lossOf(
      { lossOptions: { classWeights: [1, 0, 0] } },
      Array.from({ length: 6 }, () => 0),
    ),
  ).toBeCloseTo(each[0]!, 5);
  const all = await lossOf({ lossOptions: { ignoreIndex: -100 } }, [-100, -100, -100, -100, -100, -100]);
  expect(all).toBeCloseTo(0, 9);
  const smooth = await lossOf({ lossOptions: { labelSmoothing: 0.3 } }, [1, 1, 1, 1, 1, 1]);
  // (1 − ε)·loss of the class + ε·mean over the classes.
  expect(smooth).toBeCloseTo(0.7 * each[1]! + 0.1 * (each[0]! + each[1]! + each[2]!), 5);
});

test('huber is a square near zero and a line beyond', async () => {
  const at = async (loss: 'mse' | 'mae' | 'huber', delta: number): Promise<number> => {
    const options = loss === 'huber' ? { lossOptions: { delta } } : {};
    return (await start(small(), { ...sgd, loss, ...options })).step();
  };
  expect(await at('huber', 1e6)).toBeCloseTo((await at('mse', 0)) / 2, 4);
  expect((await at('huber', 1e-6)) / 1e-6).toBeCloseTo(await at('mae', 0), 3);
});

test('an example of weight zero has no part in the step', async () => {
  const weights = Float32Array.of(1, 1, 1, 1, 0, 0);
  const whole = await start(small(), sgd);
  const partial = await start(small(), sgd);
  const data = (partial.feeds['input']!.data as Float32Array).slice().fill(9, 4 * 5);
  partial.feeds['input'] = new ort.Tensor('float32', data, [6, 5]);
  expect(await partial.step(weights)).toBeCloseTo(await whole.step(weights), 6);
  for (const { input } of whole.training.parameters)
    expect(partial.feeds[input]!.data).toEqual(whole.feeds[input]!.data);
});

test('a batch of weight zero changes nothing', async () => {
  const { step, feeds } = await start(small(), sgd);
  const before = feeds['output.weight']!.data;
  expect(await step(new Float32Array(6))).toBeCloseTo(0, 9);
  expect(feeds['output.weight']!.data).toEqual(before);
});

test('the first Adam step moves each weight by the learning rate', async () => {
  const { step, feeds } = await start(small(), { ...sgd, optimizer: { name: 'adam', learningRate: 0.02 } });
  const before = feeds['output.weight']!.data as Float32Array;
  await step();
  const after = feeds['output.weight']!.data as Float32Array;
  const moved = before.map((value, index) => Math.abs(value - after[index]!)).filter((distance) => distance > 0);
  for (const distance of moved) expect(distance).toBeCloseTo(0.02, 4);
});

function oneNode(operator: string, initializer: TensorProto[], inputs = ['input', 'w']): ModelProto {
  return makeModel({
    name: 'one',
    node: [makeNode('Gemm', inputs, ['hidden']), makeNode(operator, ['hidden'], ['logits'], {}, 'the-node')],
    initializer,
    input: [makeValue('input', ['batch', 3])],
    output: [makeValue('logits', ['batch', 3])],
  });
}

test('an operator without a gradient is refused by node and name', () => {
  const model = oneNode('Sign', [floatTensor('w', [3, 3], new Float32Array(9))]);
  const build = (): TrainingGraph => buildTrainingGraph(readModel(splitModel(model).graph), sgd);
  expect(build).toThrow(NotTrainableError);
  expect(build).toThrow(/Sign of node 'the-node'/);
});

test('a closing Softmax is part of cross-entropy', async () => {
  const w = floatTensor(
    'w',
    [3, 3],
    Float32Array.from({ length: 9 }, (_, index) => Math.sin(index)),
  );
  const [closed, open] = [await start(oneNode('Softmax', [w]), sgd), await start(oneNode('Identity', [w]), sgd)];
  expect(await closed.step()).toBeCloseTo(await open.step(), 6);
});

test('two parameters may share one gradient', async () => {
  const model = makeModel({
    name: 'twice',
    node: [makeNode('Add', ['a', 'b'], ['w']), makeNode('Gemm', ['input', 'w'], ['logits'])],
    initializer: [floatTensor('a', [3, 3], new Float32Array(9)), floatTensor('b', [3, 3], new Float32Array(9))],
    input: [makeValue('input', ['batch', 3])],
    output: [makeValue('logits', ['batch', 3])],
  });
  const { step, feeds } = await start(model, sgd);
  await step();
  expect(feeds['a']!.data).toEqual(feeds['b']!.data);
  expect((feeds['a']!.data as Float32Array).some((value) => value !== 0)).toBe(true);
});

test('a dense layer is updated by the very product that makes its gradient', () => {
  const training = readModel(buildTrainingGraph(readModel(splitModel(fedAvg2nn(1)).graph), sgd).model);
  const maker = training.graph!.node.find(({ output }) => output[0] === 'training/hidden1.weight/next');
  expect(maker?.opType).toBe('Gemm');
});

test('the models of the FedAvg paper have its parameter counts', () => {
  expect([fedAvg2nn(1), fedAvgCnn(1)].map((model) => splitModel(model).layout.length)).toEqual([199_210, 1_663_370]);
});

test.each(Object.entries(optimizers))('%s: weights that are zero stay zero where the plan says so', async (_, plan) => {
  const { model } = pruneWeights(small(), { sparsity: 0.5 });
  const trained = { ...sgd, ...plan, weightDecay: 0.01, keepZeros: true };
  const { step, feeds, training } = await start(model, trained);
  const zerosOf = (): boolean[] =>
    training.parameters
      .filter(({ shape }) => shape.length > 1)
      .flatMap(({ input }) => Array.from(feeds[input]!.data as Float32Array, (value) => value === 0));
  const before = zerosOf();
  for (let count = 0; count < 5; count++) await step();
  expect(before.filter(Boolean).length).toBeGreaterThan(20);
  expect(zerosOf()).toEqual(before);
  // Biases begin at zero, and are trained.
  expect((feeds['hidden1.bias']!.data as Float32Array).some((value) => value !== 0)).toBe(true);
});

import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { readModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { joinModel, layoutOf, splitModel } from '../onnx/parameters.ts';
import { floatTensor } from '../onnx/tensor-data.ts';
import { seeded } from '../random/stream.ts';
import { dropoutMask } from './dropout.ts';
import type { TrainingPlan } from './plan.ts';
import { buildTrainingGraph } from './training-graph.ts';
import type { TrainingGraph } from './training-graph.ts';

const plan: TrainingPlan = {
  loss: 'mse',
  optimizer: { name: 'sgd', learningRate: 0.1 },
  epochs: 1,
  batchSize: 4,
};

const vector = (name: string, ...values: number[]): TensorProto =>
  floatTensor(name, [values.length], Float32Array.from(values));

function model(node: NodeProto[], initializer: TensorProto[]): ModelProto {
  const value = makeValue('y', ['batch', 2, 3]);
  return makeModel({ name: 'm', node, initializer, input: [makeValue('x', ['batch', 2, 3])], output: [value] });
}

const normalized = (attributes: { training_mode?: number; momentum?: { float: number } }): ModelProto =>
  model(
    [
      makeNode(
        'BatchNormalization',
        ['x', 'scale', 'bias', 'mean', 'variance'],
        ['y', 'm', 'v'].slice(0, attributes.training_mode === 1 ? 3 : 1),
        attributes,
      ),
    ],
    [vector('scale', 1, 2), vector('bias', 0, 1), vector('mean', 0, 0), vector('variance', 1, 1)],
  );

const data = Float32Array.from({ length: 24 }, (_, index) => Math.sin(index * 1.7) * 2 + (index % 6 < 3 ? 1 : -1));

async function stepOnce(
  split: ModelProto,
  weights: Float32Array,
  { x = data, real = [1, 1, 1, 1] }: { x?: Float32Array; real?: number[] } = {},
): Promise<{ next: Record<string, Float32Array>; loss: number }> {
  const training = buildTrainingGraph(split, plan);
  const session = await ort.InferenceSession.create(training.model, { logSeverityLevel: 3 });
  const feeds: Record<string, ort.Tensor> = {
    x: new ort.Tensor('float32', x, [4, 2, 3]),
    [training.target.name]: new ort.Tensor('float32', new Float32Array(24), [4, 2, 3]),
    [training.sampleWeights]: new ort.Tensor('float32', Float32Array.from(real), [4]),
  };
  for (const { name, offset, length, shape } of layoutOf(split).parameters) {
    feeds[name] = new ort.Tensor('float32', weights.slice(offset, offset + length), shape);
  }
  const results = await session.run(feeds);
  await session.release();
  const next = training.parameters.map(({ name, output }) => [name, results[output]!.data as Float32Array] as const);
  return { next: Object.fromEntries(next), loss: Number(results[training.loss]!.data[0]) };
}

/** Mean and population variance of each channel of the first `count` examples. */
function statisticsOf(x: Float32Array, count: number): { mean: number[]; variance: number[] } {
  const channels = [0, 1].map((channel) =>
    [...x].filter((_, index) => index < 6 * count && Math.floor(index / 3) % 2 === channel),
  );
  const mean = channels.map((values) => values.reduce((sum, value) => sum + value, 0) / values.length);
  const variance = channels.map(
    (values, c) => values.reduce((sum, value) => sum + (value - mean[c]!) ** 2, 0) / values.length,
  );
  return { mean, variance };
}

test('statistics of a BatchNormalization exported in training mode are parameters that move towards the batch', async () => {
  const { graph, weights, layout } = splitModel(normalized({ training_mode: 1, momentum: { float: 0.75 } }));
  expect(layout.parameters.map(({ name }) => name)).toEqual(['scale', 'bias', 'mean', 'variance']);
  const { next, loss } = await stepOnce(readModel(graph), weights);
  const { mean, variance } = statisticsOf(data, 4);
  next['mean']!.forEach((value, c) => expect(value).toBeCloseTo(0.25 * mean[c]!, 5));
  next['variance']!.forEach((value, c) => expect(value).toBeCloseTo(0.75 + 0.25 * variance[c]!, 5));
  // Normalised by the batch, the mean square is scale² + bias², as far as epsilon lets it.
  expect(loss).toBeCloseTo((1 + 5) / 2, 3);
});

test('what fills a batch up has no part in its statistics, and a batch of nothing moves none', async () => {
  const { graph, weights } = splitModel(normalized({ training_mode: 1 }));
  const split = readModel(graph);
  const filled = data.slice().fill(0, 18);
  const { next } = await stepOnce(split, weights, { x: filled, real: [1, 1, 1, 0] });
  const { mean } = statisticsOf(data, 3);
  next['mean']!.forEach((value, c) => expect(value).toBeCloseTo(0.1 * mean[c]!, 5));
  const { next: still } = await stepOnce(split, weights, { real: [0, 0, 0, 0] });
  expect([...still['mean']!, ...still['variance']!]).toEqual([0, 0, 1, 1]);
});

test('a version with trained statistics serves by them, and not by the batch', async () => {
  const { graph, weights } = splitModel(normalized({ training_mode: 1 }));
  const served = readModel(joinModel(readModel(graph), weights));
  const norm = served.graph!.node.find(({ opType }) => opType === 'BatchNormalization')!;
  expect([norm.output, norm.attribute.map(({ name }) => name)]).toEqual([['y'], []]);
  const session = await ort.InferenceSession.create(joinModel(readModel(graph), weights));
  const { y } = await session.run({ x: new ort.Tensor('float32', data, [4, 2, 3]) });
  expect((y!.data as Float32Array)[0]).toBeCloseTo(data[0]! / Math.sqrt(1 + 1e-5), 5);
  await session.release();
});

test('statistics of a BatchNormalization exported for inference stay as they are', async () => {
  const { graph, weights, layout } = splitModel(normalized({}));
  expect(layout.parameters.map(({ name }) => name)).toEqual(['scale', 'bias']);
  const { next } = await stepOnce(readModel(graph), weights);
  expect(Object.keys(next)).toEqual(['scale', 'bias']);
});

/** The model under another operator set. */
function ofSet(one: ModelProto, version: bigint): ModelProto {
  return { ...one, opsetImport: one.opsetImport.map((set) => ({ ...set, version })) };
}

test('a model of an old operator set trains as its newer twin does', async () => {
  const initializer = [vector('w', 1, -2, 3), vector('b', 0.5, 0.5, 0.5)];
  const between = (bounds: NodeProto): ModelProto =>
    model([makeNode('Mul', ['x', 'w'], ['h']), bounds, makeNode('Add', ['c', 'b'], ['y'])], initializer);
  const old = ofSet(between(makeNode('Clip', ['h'], ['c'], { min: { float: -1 }, max: { float: 1.5 } })), 9n);
  const limits = ['low', 'high'].map((name, index) => floatTensor(name, [], Float32Array.of([-1, 1.5][index]!)));
  const young = between(makeNode('Clip', ['h', 'low', 'high'], ['c']));
  young.graph!.initializer.push(...limits);
  const [first, second] = await Promise.all(
    [old, young].map(async (one) => {
      const { graph, weights } = splitModel(one);
      return stepOnce(readModel(graph), weights);
    }),
  );
  expect(first).toEqual(second);
});

test('a closing Softmax of an old operator set is part of the loss as well', () => {
  const classes = (version: bigint): Uint8Array => {
    const one = makeModel({
      name: 'c',
      node: [makeNode('Gemm', ['x', 'w'], ['z']), makeNode('Softmax', ['z'], ['y'], { axis: 1 })],
      initializer: [floatTensor('w', [3, 2], new Float32Array(6))],
      input: [makeValue('x', ['batch', 3])],
      output: [makeValue('y', ['batch', 2])],
    });
    const split = readModel(splitModel(ofSet(one, version)).graph);
    return buildTrainingGraph(split, { ...plan, loss: 'cross-entropy' }).model;
  };
  expect(classes(9n)).toEqual(classes(17n));
});

test.each([13n, 14n, 15n, 16n, 18n, 19n, 20n, 21n, 22n, 23n, 24n, 25n, 26n])(
  'a model of operator set %i is trained as one of 17',
  (version) => {
    const built = (set: bigint): Uint8Array =>
      buildTrainingGraph(readModel(splitModel(ofSet(normalized({}), set)).graph), plan).model;
    expect(built(version)).toEqual(built(17n));
  },
);

test.each([
  [5n, /operator set 5 is too old/],
  [27n, /operator set 27; training reads up to 26/],
])('operator set %i is refused', (version, message) => {
  const split = readModel(splitModel(ofSet(normalized({}), version)).graph);
  expect(() => buildTrainingGraph(split, plan)).toThrow(message);
});

const dropping = (): TrainingGraph => {
  const ratio = makeNode('Constant', [], ['ratio'], { value_float: { float: 0.25 } });
  const isTraining = floatTensor('mode', [], Float32Array.of(1));
  const nodes = [
    ratio,
    makeNode('Mul', ['x', 'w'], ['scaled']),
    makeNode('Dropout', ['scaled', 'ratio', 'mode'], ['y']),
  ];
  const { graph } = splitModel(model(nodes, [vector('w', 1, 1, 1), isTraining]));
  return buildTrainingGraph(readModel(graph), { ...plan, dropout: true });
};

test('a Dropout takes a mask from outside, and without the plan asking it passes everything on', () => {
  const { masks, model: bytes } = dropping();
  expect(masks).toEqual([{ input: 'training/dropout-0', shape: [4, 2, 3], keep: 0.75 }]);
  expect(readModel(bytes).graph!.input.map(({ name }) => name)).toContain('training/dropout-0');
  const nodes = [makeNode('Mul', ['x', 'w'], ['scaled']), makeNode('Dropout', ['scaled'], ['y'])];
  const { graph } = splitModel(model(nodes, [vector('w', 1, 1, 1)]));
  expect(buildTrainingGraph(readModel(graph), plan).masks).toEqual([]);
});

test('a node that is written anew may be called as another one of the model is', async () => {
  const scale = makeNode('Mul', ['x', 'w'], ['scaled'], {}, 'y');
  const { graph } = splitModel(model([scale, makeNode('Dropout', ['scaled'], ['y'])], [vector('w', 1, 1, 1)]));
  const training = buildTrainingGraph(readModel(graph), { ...plan, dropout: true });
  const session = await ort.InferenceSession.create(training.model, { logSeverityLevel: 3 });
  expect(session.inputNames).toContain(training.masks[0]!.input);
  await session.release();
});

test('the same seed drops the same, and on average nothing is lost', () => {
  const mask = { input: 'm', shape: [100, 200], keep: 0.75 };
  const drawn = dropoutMask(mask, seeded(3));
  expect(dropoutMask(mask, seeded(3))).toEqual(drawn);
  expect(dropoutMask(mask, seeded(4))).not.toEqual(drawn);
  expect(new Set(drawn)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
  const mean = drawn.reduce((sum, value) => sum + value, 0) / drawn.length;
  // Six standard deviations of the mean of 20 000 numbers.
  expect(Math.abs(mean - 1)).toBeLessThan(6 * Math.sqrt((1 / 0.75 - 1) / 20_000));
});

test('tokens go in as whole numbers', async () => {
  const tokens = makeModel({
    name: 'words',
    node: [makeNode('Gather', ['table', 'x'], ['y'])],
    initializer: [floatTensor('table', [3, 2], Float32Array.of(1, 2, 3, 4, 5, 6))],
    input: [makeValue('x', ['batch', 2], 7)],
    output: [makeValue('y', ['batch', 2, 2])],
  });
  const { graph } = splitModel(tokens);
  const training = buildTrainingGraph(readModel(graph), {
    ...plan,
    batchSize: 2,
    optimizer: { name: 'sgd', learningRate: 1 },
  });
  expect(training.data).toEqual([{ name: 'x', shape: [2, 2], dtype: 'int64' }]);
  const session = await ort.InferenceSession.create(training.model, { logSeverityLevel: 3 });
  const results = await session.run({
    x: new ort.Tensor('int64', BigInt64Array.of(0n, 2n, 2n, 2n), [2, 2]),
    table: new ort.Tensor('float32', Float32Array.of(1, 2, 3, 4, 5, 6), [3, 2]),
    [training.target.name]: new ort.Tensor('float32', new Float32Array(8), [2, 2, 2]),
    [training.sampleWeights]: new ort.Tensor('float32', Float32Array.of(1, 1), [2]),
  });
  // The gradient of the mean of eight squares is w/4 for each time that w was read.
  expect([...(results[training.parameters[0]!.output]!.data as Float32Array)]).toEqual([0.75, 1.5, 3, 4, 1.25, 1.5]);
  await session.release();
});

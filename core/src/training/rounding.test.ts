import * as fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { cnn } from '../models/cnn.ts';
import { mlp } from '../models/mlp.ts';
import { graphOf, readModel, writeModel } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { joinModel, splitModel } from '../onnx/parameters.ts';
import { floatTensor } from '../onnx/tensor-data.ts';
import { quantizeModel } from '../quantize/quantize.ts';
import { addRanges, keptRanges, rangesIn } from '../quantize/kept-ranges.ts';
import { seeded } from '../random/stream.ts';
import { parsePlan } from './plan.ts';
import type { TrainingPlan } from './plan.ts';
import { buildTrainingGraph } from './training-graph.ts';
import type { TrainingGraph } from './training-graph.ts';

const options = { intraOpNumThreads: 1, logSeverityLevel: 3 } as const;
const floats = (values: ArrayLike<number>, dims: readonly number[]): ort.Tensor =>
  new ort.Tensor('float32', Float32Array.from(values), dims);

const plan = (changes: object): TrainingPlan =>
  parsePlan({ loss: 'mse', optimizer: { name: 'sgd', learningRate: 1 }, epochs: 1, batchSize: 2, ...changes });

interface Step {
  loss: number;
  /** By parameter. */
  before: Map<string, number[]>;
  after: Map<string, number[]>;
}

/** One step on these examples. */
async function step(
  model: ModelProto,
  own: TrainingPlan,
  x: number[],
  target: number[],
  weights: number[] = [1, 1],
): Promise<Step> {
  const { graph, weights: flat } = splitModel(model);
  const split = readModel(graph);
  const training = buildTrainingGraph(split, own);
  const session = await ort.InferenceSession.create(training.model, options);
  let offset = 0;
  const parts = new Map<string, Float32Array>();
  for (const { name, shape } of training.parameters) {
    const length = shape.reduce((product, size) => product * size, 1);
    parts.set(name, flat.slice(offset, (offset += length)));
  }
  const results = await session.run(feedsOf(training, parts, x, target, weights));
  await session.release();
  return {
    loss: Number(results[training.loss]!.data[0]),
    before: new Map([...parts].map(([name, values]) => [name, [...values]])),
    after: new Map(training.parameters.map(({ name, output }) => [name, [...(results[output]!.data as Float32Array)]])),
  };
}

function feedsOf(
  training: TrainingGraph,
  parts: ReadonlyMap<string, Float32Array>,
  x: number[],
  target: number[],
  weights: number[],
): Record<string, ort.Tensor> {
  const { target: goal } = training;
  return {
    [training.data[0]!.name]: floats(x, training.data[0]!.shape),
    [goal.name]:
      goal.dtype === 'float'
        ? floats(target, goal.shape)
        : new ort.Tensor('int64', BigInt64Array.from(target, BigInt), goal.shape),
    [training.sampleWeights]: floats(weights, [weights.length]),
    ...Object.fromEntries(
      training.parameters.map(({ name, input, shape }) => [input, floats(parts.get(name)!, shape)]),
    ),
    ...Object.fromEntries(training.anchors.map(({ input, parameter }) => [input, floats(parts.get(parameter)!, [2])])),
  };
}

/** y = x·W, two numbers in and one out. */
const line = (weights: number[]): ModelProto =>
  makeModel({
    name: 'line',
    node: [makeNode('MatMul', ['x', 'w'], ['y'])],
    initializer: [floatTensor('w', [2, 1], Float32Array.from(weights))],
    input: [makeValue('x', ['batch', 2])],
    output: [makeValue('y', ['batch', 1])],
  });

test('weights are rounded on the way forward, and their gradient passes straight through', async () => {
  // Three bits: codes from -3 to 3, so that the scale is 1 and 1.4 is read as 1.
  const { loss, before, after } = await step(
    line([3, 1.4]),
    plan({ quantizationAware: { weights: 3 } }),
    [1, 1, 0, 1],
    [0, 0],
  );
  const [a, b] = [3 + 1, 1];
  expect(loss).toBeCloseTo((a * a + b * b) / 2, 5);
  // d loss / d w at the rounded weights: the mean of 2·y·x over the two examples.
  const gradient = [a, a + b];
  after.get('w')!.forEach((value, at) => expect(value).toBeCloseTo(before.get('w')![at]! - gradient[at]!, 5));
});

test('activations are rounded within the batch’s range where the model keeps none, and zero stays zero', async () => {
  // Two bits: codes 0 to 3 over the range 0 to 3, so that 1.4 is read as 1.
  const { loss } = await step(line([1, 0]), plan({ quantizationAware: { activations: 2 } }), [3, 0, 1.4, 0], [0, 0]);
  expect(loss).toBeCloseTo((9 + 1) / 2, 5);
  // What fills up a batch says nothing of the range.
  const filled = await step(
    line([1, 0]),
    plan({ quantizationAware: { activations: 2 } }),
    [3, 0, 90, 0],
    [0, 0],
    [1, 0],
  );
  expect(filled.loss).toBeCloseTo(9, 5);
});

/** Two layers, so that a range lies between them. */
const twoLayers = (): ModelProto =>
  makeModel({
    name: 'two',
    node: [
      makeNode('MatMul', ['x', 'w'], ['h']),
      makeNode('Relu', ['h'], ['r']),
      makeNode('MatMul', ['r', 'v'], ['y']),
    ],
    initializer: [floatTensor('w', [1, 1], Float32Array.of(1)), floatTensor('v', [1, 1], Float32Array.of(1))],
    input: [makeValue('x', ['batch', 1])],
    output: [makeValue('y', ['batch', 1])],
  });

test('numbers out of a kept range are clipped, and what made them gets no gradient from them', async () => {
  const ranges = new Map([
    ['x', { min: 0, max: 255 }],
    ['r', { min: 0, max: 3 }],
  ]);
  const aware = plan({ quantizationAware: { activations: 8 } });
  const inside = await step(addRanges(twoLayers(), ranges), aware, [2, 2], [0, 0]);
  expect(inside.after.get('w')![0]).not.toBe(1);
  const outside = await step(addRanges(twoLayers(), ranges), aware, [200, 200], [0, 0]);
  expect(outside.after.get('w')![0]).toBe(1);
  // The range has moved a twentieth of the way to the batch's, in its own unit, and the second layer reads its end.
  const moved = 2 + 0.05 * (Math.log2(201) - 2);
  // 200 itself is rounded on its way.
  expect(outside.after.get('r/range')![1]).toBeCloseTo(moved, 2);
  expect(outside.loss).toBeCloseTo((2 ** moved - 1) ** 2, 1);
});

test('a range that is empty takes the batch’s, and none moves further in a training than an update may say', async () => {
  const aware = plan({ quantizationAware: { activations: 8 } });
  const fresh = addRanges(twoLayers());
  const { after } = await step(fresh, aware, [3, 7], [0, 0]);
  expect(after.get('r/range')).toEqual([0, 3]);
  expect(after.get('x/range')).toEqual([0, 3]);
  const far = await step(fresh, aware, [1e6, 0], [0, 0]);
  expect(far.after.get('x/range')).toEqual([0, 7]);
});

test('ranges are parameters of an ordinary model: it answers as before, and its versions carry them', async () => {
  const model = mlp({ inputs: 3, hidden: [4], outputs: 2, seed: 1 });
  const ranges = new Map([['input', { min: -1, max: 3 }]]);
  const kept = addRanges(model, ranges);
  expect(keptRanges(kept).map(({ value }) => value)).toEqual(['input', 'hidden1.relu']);
  const { graph, weights, layout } = splitModel(kept);
  expect(layout.parameters.slice(-2).map(({ name, shape }) => [name, shape])).toEqual([
    ['input/range', [2]],
    ['hidden1.relu/range', [2]],
  ]);
  // One of them is still empty.
  expect(rangesIn(kept)).toBeUndefined();
  weights.set([0, 2], weights.length - 2);
  const version = readModel(joinModel(readModel(graph), weights));
  expect(rangesIn(version)).toEqual(
    new Map([
      ['input', { min: -1, max: 3 }],
      ['hidden1.relu', { min: 0, max: 3 }],
    ]),
  );
  const run = async (onnx: ModelProto): Promise<unknown> => {
    const session = await ort.InferenceSession.create(writeModel(onnx), options);
    return (await session.run({ input: floats([1, -2, 0.5], [1, 3]) }))['logits']!.data;
  };
  expect(await run(version)).toEqual(await run(model));
  // The int8 form has no trace of them but their numbers.
  const { model: coded } = quantizeModel(version, 'static-int8', { ranges: rangesIn(version)! });
  expect(graphOf(coded).initializer.some(({ name }) => name.endsWith('/range'))).toBe(false);
  expect(() => addRanges(kept)).toThrow('the model keeps ranges already');
});

test('a range is kept for any magnitude to a thousandth of it', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0, max: 1e6, noNaN: true }),
      fc.double({ min: 1e-3, max: 1e6, noNaN: true }),
      (below, above) => {
        const kept = addRanges(line([1, 1]), new Map([['x', { min: -below, max: above }]]));
        const { min, max } = rangesIn(kept)!.get('x')!;
        expect(Math.abs(min + below)).toBeLessThanOrEqual(1e-3 * below + 1e-6);
        expect(Math.abs(max - above)).toBeLessThanOrEqual(1e-3 * above + 1e-6);
      },
    ),
  );
});

test('rounded as in training, a model answers as its int8 form does', async () => {
  const random = seeded(4);
  const model = cnn({ height: 6, width: 6, channels: 1, filters: [3], kernel: 3, dense: 8, outputs: 3, seed: 2 });
  const x = Array.from({ length: 2 * 36 }, () => random.normal());
  const aware = plan({
    loss: 'cross-entropy',
    optimizer: { name: 'sgd', learningRate: 1e-6 },
    quantizationAware: { weights: 8, activations: 8 },
  });
  const { loss, after } = await step(addRanges(model), aware, x, [1, 2]);
  const names = ['input', 'conv1.relu', 'hidden.relu'];
  const ranges = new Map(
    names.map((name) => {
      const [below = 0, above = 0] = after.get(`${name}/range`)!;
      return [name, { min: 1 - 2 ** below, max: 2 ** above - 1 }];
    }),
  );
  const { model: coded } = quantizeModel(model, 'static-int8', { ranges });
  const session = await ort.InferenceSession.create(writeModel(coded), options);
  const logits = (await session.run({ input: floats(x, [2, 1, 6, 6]) }))['logits']!.data as Float32Array;
  const losses = [1, 2].map((label, row) => {
    const own = logits.subarray(row * 3, row * 3 + 3);
    return Math.log(own.reduce((sum, value) => sum + Math.exp(value), 0)) - own[label]!;
  });
  // The form rounds biases as well, and a code here and there falls on the other side of a half.
  expect(Math.abs(loss - (losses[0]! + losses[1]!) / 2)).toBeLessThan(0.01 * loss);
});

test.each<[object, string]>([
  [{}, 'quantizationAware says nothing: give bits (2 to 8) of weights, activations or both'],
  [{ weights: 1 }, 'quantizationAware.weights is out of range: 1'],
  [{ activations: 7.5 }, 'quantizationAware.activations is out of range: 7.5'],
  [{ bits: 8 }, 'quantizationAware.bits is not known; use weights, activations'],
])('a plan that is aware of %j is refused', (quantizationAware, words) => {
  expect(() => plan({ quantizationAware })).toThrow(words);
});

import { base64Encode } from '@bufbuild/protobuf/wire';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { ConfigError } from '../errors.ts';
import { mlp } from '../models/mlp.ts';
import { NotTrainableError, OnnxError } from '../onnx/errors.ts';
import { elemTypeOf } from '../onnx/contract.ts';
import { readModel, writeModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { layoutOf, splitModel } from '../onnx/parameters.ts';
import { floatTensor } from '../onnx/tensor-data.ts';
import { seeded } from '../random/stream.ts';
import { buildEvaluationGraph } from './evaluation-graph.ts';
import { parsePlan } from './plan.ts';
import type { TrainingPlan } from './plan.ts';
import { buildTrainingGraph } from './training-graph.ts';

type Value = readonly [name: string, dtype: string, ...dims: (number | string)[]];

function lossGraph(
  inputs: readonly Value[],
  node: NodeProto[],
  output: Value,
  initializer: TensorProto[] = [],
): ModelProto {
  const value = ([name, dtype, ...dims]: Value) => makeValue(name, dims, elemTypeOf(dtype));
  return makeModel({ name: 'loss', node, initializer, input: inputs.map(value), output: [value(output)] });
}

const planOf = (loss: ModelProto, more: object = {}): TrainingPlan =>
  parsePlan({
    loss: 'graph',
    lossGraph: base64Encode(writeModel(loss)),
    optimizer: { name: 'sgd', learningRate: 0.1 },
    epochs: 1,
    batchSize: 4,
    ...more,
  });

const model = (): ModelProto => mlp({ inputs: 3, hidden: [4], outputs: 2, seed: 1 });

/** The weights after one step, and its loss; the last example counts half, or what is said. */
async function step(
  of: ModelProto,
  plan: TrainingPlan,
  target: ort.Tensor,
  last = 0.5,
): Promise<{ loss: number; weights: number[] }> {
  const { graph, weights } = splitModel(of);
  const split = readModel(graph);
  const training = buildTrainingGraph(split, plan);
  const random = seeded(3);
  const feeds: Record<string, ort.Tensor> = {
    input: new ort.Tensor(
      'float32',
      Float32Array.from({ length: 12 }, () => random.normal()),
      [4, 3],
    ),
    [training.target.name]: target,
    [training.sampleWeights]: new ort.Tensor('float32', Float32Array.of(1, 1, 1, last), [4]),
  };
  for (const { name, shape, offset, length } of layoutOf(split).parameters) {
    feeds[name] = new ort.Tensor('float32', weights.slice(offset, offset + length), shape);
  }
  const session = await ort.InferenceSession.create(training.model, { logSeverityLevel: 3 });
  const results = await session.run(feeds);
  await session.release();
  return {
    loss: Number(results[training.loss]!.data[0]),
    weights: training.parameters.flatMap(({ output }) => [...(results[output]!.data as Float32Array)]),
  };
}

const numbers = new ort.Tensor('float32', Float32Array.of(1, -1, 0, 2, 0.5, 0.5, -2, 1), [4, 2]);
const classes = new ort.Tensor('int64', BigInt64Array.of(0n, 1n, 1n, 0n), [4]);

const squares = [
  makeNode('Sub', ['logits', 'target'], ['error']),
  makeNode('Mul', ['error', 'error'], ['square']),
  makeNode('ReduceMean', ['square'], ['each'], { axes: [1], keepdims: 0 }),
];
const PREDICTION: Value = ['logits', 'float', 'batch', 'outputs'];
const NUMBERS: Value = ['target', 'float', 'batch', 'outputs'];

test('one number an example is averaged by their weights, as a loss of the table is', async () => {
  const loss = lossGraph([PREDICTION, NUMBERS], squares, ['each', 'float', 'batch']);
  const own = await step(model(), planOf(loss), numbers);
  const { lossGraph: _, ...plan } = planOf(loss);
  const known = await step(model(), { ...plan, loss: 'mse' }, numbers);
  expect(own.loss).toBeCloseTo(known.loss, 6);
  own.weights.forEach((value, index) => expect(value).toBeCloseTo(known.weights[index]!, 6));
});

test('one number for the batch reads the weights itself', async () => {
  const weighed = [
    ...squares,
    makeNode('Mul', ['each', 'sampleWeights'], ['weighed']),
    makeNode('ReduceSum', ['weighed'], ['total'], { keepdims: 0 }),
    makeNode('ReduceSum', ['sampleWeights'], ['count'], { keepdims: 0 }),
    makeNode('Div', ['total', 'count'], ['loss']),
  ];
  const inputs = [PREDICTION, NUMBERS, ['sampleWeights', 'float', 'batch'] as const];
  const own = await step(model(), planOf(lossGraph(inputs, weighed, ['loss', 'float'])), numbers);
  const each = await step(
    model(),
    planOf(lossGraph([PREDICTION, NUMBERS], squares, ['each', 'float', 'batch'])),
    numbers,
  );
  expect(own.loss).toBeCloseTo(each.loss, 6);
  own.weights.forEach((value, index) => expect(value).toBeCloseTo(each.weights[index]!, 6));
  const silent = lossGraph(
    [PREDICTION, NUMBERS],
    [...squares, makeNode('ReduceMean', ['each'], ['loss'], { keepdims: 0 })],
    ['loss', 'float'],
  );
  expect(() => buildTrainingGraph(readModel(splitModel(model()).graph), planOf(silent))).toThrow(
    "is one number for the batch and does not read 'sampleWeights'",
  );
});

test('classes, and tensors of its own: a focal loss', async () => {
  const focal = [
    makeNode('Softmax', ['logits'], ['p'], { axis: -1 }),
    makeNode('OneHot', ['target', 'depth', 'offOn'], ['wanted'], { axis: -1 }),
    makeNode('Mul', ['p', 'wanted'], ['own']),
    makeNode('ReduceSum', ['own', 'last'], ['chance'], { keepdims: 0 }),
    makeNode('Sub', ['one', 'chance'], ['miss']),
    makeNode('Pow', ['miss', 'two'], ['focus']),
    makeNode('Log', ['chance'], ['logp']),
    makeNode('Mul', ['focus', 'logp'], ['weighed']),
    makeNode('Neg', ['weighed'], ['each']),
  ];
  const integer = (name: string, value: bigint): TensorProto => ({
    ...floatTensor(name, [1], new Float32Array(1)),
    dataType: 7,
    rawData: new Uint8Array(),
    int64Data: [value],
  });
  const constants = [
    integer('depth', 2n),
    integer('last', -1n),
    floatTensor('offOn', [2], Float32Array.of(0, 1)),
    floatTensor('one', [], Float32Array.of(1)),
    floatTensor('two', [], Float32Array.of(2)),
  ];
  const loss = lossGraph(
    [
      ['p0', 'float', 'batch', 2],
      ['target', 'int64', 'batch'],
    ],
    focal.map((node) => ({ ...node, input: node.input.map((name) => (name === 'logits' ? 'p0' : name)) })),
    ['each', 'float', 'batch'],
    constants,
  );
  const plan = planOf(loss);
  const before = await step(model(), plan, classes, 1);
  // One loss an example, by hand.
  const { graph, weights } = splitModel(model());
  const echo = buildEvaluationGraph(
    readModel(graph),
    { loss: 'graph', lossGraph: plan.lossGraph!, metrics: ['loss', 'accuracy'] },
    4,
  );
  expect(echo.target).toEqual({ name: 'training/target', shape: [4], dtype: 'int64' });
  // The gradient is that of finite differences.
  const moved = async (by: number): Promise<number> => {
    const changed = splitModel(model());
    changed.weights[0]! += by;
    const whole = readModel(writeModel(model()));
    const [first] = layoutOf(readModel(changed.graph)).parameters;
    const tensor = whole.graph!.initializer.find(({ name }) => name === first!.name)!;
    Object.assign(tensor, floatTensor(first!.name, first!.shape, changed.weights.slice(0, first!.length)));
    return (await step(whole, plan, classes, 1)).loss;
  };
  const slope = ((await moved(1e-2)) - (await moved(-1e-2))) / 2e-2;
  expect((weights[0]! - before.weights[0]!) / 0.1).toBeCloseTo(slope, 3);
});

test('several outputs of a model may be read, by their names', () => {
  const two: ModelProto = {
    ...model(),
    graph: {
      ...model().graph!,
      node: [...model().graph!.node, makeNode('Gemm', ['hidden1.relu', 'side.weight'], ['side'])],
      initializer: [...model().graph!.initializer, floatTensor('side.weight', [4, 1], Float32Array.of(1, 2, 3, 4))],
      output: [...model().graph!.output, makeValue('side', ['batch', 1])],
    },
  };
  const nodes = [
    makeNode('Add', ['logits', 'side'], ['both']),
    makeNode('Sub', ['both', 'target'], ['error']),
    makeNode('Abs', ['error'], ['distance']),
    makeNode('ReduceSum', ['distance'], ['each'], { keepdims: 0 }),
  ];
  nodes[3] = makeNode('ReduceMax', ['distance'], ['each'], { axes: [1], keepdims: 0 });
  const reading = (side: string) =>
    planOf(
      lossGraph(
        [PREDICTION, [side, 'float', 'batch', 1], NUMBERS],
        nodes.map((node) => ({ ...node, input: node.input.map((name) => (name === 'side' ? side : name)) })),
        ['each', 'float', 'batch'],
      ),
    );
  const split = readModel(splitModel(two).graph);
  const training = buildTrainingGraph(split, reading('side'));
  const { model: step } = training;
  const trained = readModel(step).graph!.node.find(({ output }) => output[0] === 'training/side.weight/next');
  expect(trained?.opType).not.toBe('Identity');
  expect(() => buildTrainingGraph(split, reading('other'))).toThrow(
    "the loss reads 'other', and the model has the outputs 'logits', 'side'; rename it",
  );
});

test('what cannot be differentiated is named by its node', () => {
  const rounding = [
    makeNode('Round', ['logits'], ['whole'], {}, 'rounding'),
    ...squares.map((node) => ({ ...node, input: node.input.map((name) => (name === 'logits' ? 'whole' : name)) })),
  ];
  const build = (loss: ModelProto) => () => buildTrainingGraph(readModel(splitModel(model()).graph), planOf(loss));
  const refused = build(lossGraph([PREDICTION, NUMBERS], rounding, ['each', 'float', 'batch']));
  expect(refused).toThrow(NotTrainableError);
  expect(refused).toThrow("operator Round of node 'loss/rounding' has no gradient");
  const alone = build(
    lossGraph(
      [PREDICTION, NUMBERS],
      [makeNode('ReduceMean', ['target'], ['each'], { axes: [1], keepdims: 0 })],
      ['each', 'float', 'batch'],
    ),
  );
  expect(alone).toThrow('the loss does not depend on a prediction');
  const wide = build(lossGraph([PREDICTION, NUMBERS], squares.slice(0, 2), ['square', 'float', 'batch', 'outputs']));
  expect(wide).toThrow('the loss is [4,2]; give one number an example, [batch], or one for the batch');
  const other = build(lossGraph([['logits', 'float', 'batch', 3], NUMBERS], squares, ['each', 'float', 'batch']));
  expect(other).toThrow("the loss reads 'logits' as [-1,3], and the model gives [4,2]; make the two alike");
  const open = build(
    lossGraph([PREDICTION, ['target', 'float', 'batch', 'unknown']], squares, ['each', 'float', 'batch']),
  );
  expect(open).toThrow(OnnxError);
  expect(open).toThrow(
    'the target of the loss leaves axis 1 open; give it a size, or the name that it has in a prediction',
  );
});

test.each([
  ['is missing: give an ONNX file in base64', { lossGraph: undefined }],
  ['the loss is no base64', { lossGraph: 'not!base64' }],
  ['the loss has over 131072 bytes', { lossGraph: 'A'.repeat(200_000) }],
  ['the bytes are not ONNX', { lossGraph: 'AAAA' }],
  ['goes with the loss graph, and the loss is mse', { loss: 'mse' }],
  ['is not known here', { lossOptions: { delta: 1 } }],
])('a plan that says %s', (message, change) => {
  const loss = lossGraph([PREDICTION, NUMBERS], squares, ['each', 'float', 'batch']);
  expect(() => planOf(loss, change)).toThrow(ConfigError);
  expect(() => planOf(loss, change)).toThrow(message);
});

test('inputs and their types are checked when the plan is read', () => {
  const alone = [makeNode('ReduceMean', ['logits'], ['each'], { axes: [1], keepdims: 0 })];
  expect(() => planOf(lossGraph([PREDICTION], alone, ['each', 'float', 'batch']))).toThrow(
    "the loss has the inputs 'logits'; it needs the model's predictions and 'target'",
  );
  expect(() =>
    planOf(lossGraph([PREDICTION, ['target', 'double', 'batch', 2]], squares, ['each', 'float', 'batch'])),
  ).toThrow('reads a target of double; give it int64 (classes) or float');
  expect(() =>
    planOf(lossGraph([['logits', 'double', 'batch', 2], NUMBERS], squares, ['each', 'float', 'batch'])),
  ).toThrow("reads 'logits' as double; predictions are float");
});

test('metrics of numbers or classes go with a loss whose target they can read', () => {
  const loss = lossGraph([PREDICTION, NUMBERS], squares, ['each', 'float', 'batch']);
  expect(planOf(loss, { evaluation: { metrics: ['loss', 'mae'] } }).evaluation?.metrics).toEqual(['loss', 'mae']);
  expect(() => planOf(loss, { evaluation: { metrics: ['accuracy'] } })).toThrow(
    'must be a list of what goes with graph: loss, mae',
  );
  const odd = lossGraph([PREDICTION, ['target', 'float', 'batch', 1]], squares, ['each', 'float', 'batch']);
  const split = readModel(splitModel(model()).graph);
  const evaluation = (metrics: ('loss' | 'mae')[]) => () =>
    buildEvaluationGraph(split, { loss: 'graph', lossGraph: planOf(odd).lossGraph!, metrics }, 4);
  expect(evaluation(['loss'])).not.toThrow();
  expect(evaluation(['mae'])).toThrow('metric mae holds targets [4,1] against predictions [4,2]');
});

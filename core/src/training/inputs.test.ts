import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { NotTrainableError, OnnxError } from '../onnx/errors.ts';
import { elemTypeOf } from '../onnx/contract.ts';
import { readModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { layoutOf, splitModel } from '../onnx/parameters.ts';
import { floatTensor } from '../onnx/tensor-data.ts';
import { seeded } from '../random/stream.ts';
import { sizeOf } from '../tensor/shape.ts';
import { buildEvaluationGraph } from './evaluation-graph.ts';
import type { TrainingPlan } from './plan.ts';
import { buildTrainingGraph } from './training-graph.ts';
import type { TrainingGraph } from './training-graph.ts';

const plan: TrainingPlan = {
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate: 0.5 },
  epochs: 1,
  batchSize: 6,
};
const random = seeded('inputs');
const weight = (name: string, ...shape: number[]): TensorProto =>
  floatTensor(
    name,
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => random.normal() / 2),
  );

interface Input {
  name: string;
  dtype: string;
  /** A text is an open size. */
  shape: (number | string)[];
  values: (length: number) => ort.Tensor['data'];
}

function modelOf(inputs: readonly Input[], node: NodeProto[], initializer: TensorProto[]): ModelProto {
  return makeModel({
    name: 'inputs',
    node,
    initializer,
    input: inputs.map(({ name, dtype, shape }) => makeValue(name, ['batch', ...shape], elemTypeOf(dtype))),
    output: [makeValue('logits', ['batch', 3])],
  });
}

const types: Readonly<Record<string, ort.Tensor.Type>> = { float: 'float32', double: 'float64' };

/** Losses of steps on one batch. */
async function losses(
  model: ModelProto,
  training: TrainingGraph,
  inputs: readonly Input[],
  steps: number,
): Promise<number[]> {
  const { graph, weights } = splitModel(model);
  const session = await ort.InferenceSession.create(training.model, { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const feeds: Record<string, ort.Tensor> = {
    [training.target.name]: new ort.Tensor('int64', BigInt64Array.of(0n, 1n, 2n, 0n, 1n, 2n), [6]),
    [training.sampleWeights]: new ort.Tensor('float32', new Float32Array(6).fill(1), [6]),
  };
  for (const { name, shape, dtype } of training.data) {
    const { values } = inputs.find((one) => one.name === name)!;
    const type = types[dtype] ?? (dtype === 'float16' ? 'uint16' : dtype);
    feeds[name] = new ort.Tensor(type as 'float32', values(sizeOf(shape)) as Float32Array, shape);
    // Where JavaScript has a Float16Array, the runtime takes halves only so.
    if (dtype === 'float16') Object.assign(feeds[name], { type: dtype });
  }
  layoutOf(readModel(graph)).parameters.forEach(({ name, shape, offset, length }) => {
    feeds[name] = new ort.Tensor('float32', weights.slice(offset, offset + length), shape);
  });
  const found: number[] = [];
  for (let step = 0; step < steps; step++) {
    const results = await session.run(feeds);
    for (const { input, output } of training.parameters) feeds[input] = results[output]!;
    found.push(Number(results[training.loss]!.data[0]));
  }
  await session.release();
  return found;
}

const whole = (length: number): number[] => Array.from({ length }, () => random.integer(4));
const inputs: readonly Input[] = [
  { name: 'float', dtype: 'float', shape: [1], values: (n) => Float32Array.from({ length: n }, () => random.normal()) },
  {
    name: 'double',
    dtype: 'double',
    shape: [1],
    values: (n) => Float64Array.from({ length: n }, () => random.normal()),
  },
  { name: 'half', dtype: 'float16', shape: [1], values: (n) => Uint16Array.from(whole(n), (x) => x * 0x400) },
  { name: 'int8', dtype: 'int8', shape: [1], values: (n) => Int8Array.from(whole(n)) },
  { name: 'int16', dtype: 'int16', shape: [1], values: (n) => Int16Array.from(whole(n)) },
  { name: 'int32', dtype: 'int32', shape: [1], values: (n) => Int32Array.from(whole(n)) },
  { name: 'int64', dtype: 'int64', shape: [1], values: (n) => BigInt64Array.from(whole(n), BigInt) },
  { name: 'uint8', dtype: 'uint8', shape: [1], values: (n) => Uint8Array.from(whole(n)) },
  { name: 'uint16', dtype: 'uint16', shape: [1], values: (n) => Uint16Array.from(whole(n)) },
  { name: 'uint32', dtype: 'uint32', shape: [1], values: (n) => Uint32Array.from(whole(n)) },
  { name: 'uint64', dtype: 'uint64', shape: [1], values: (n) => BigUint64Array.from(whole(n), BigInt) },
  { name: 'bool', dtype: 'bool', shape: [1], values: (n) => Uint8Array.from(whole(n), (x) => x % 2) },
];
const FLOAT = 1;

test('a model reads inputs of every type, each cast to floats, and learns from all of them', async () => {
  const names = inputs.map(({ name }) => name);
  const model = modelOf(
    inputs,
    [
      ...names.map((name) => makeNode('Cast', [name], [`${name}/x`], { to: FLOAT })),
      makeNode(
        'Concat',
        names.map((name) => `${name}/x`),
        ['x'],
        { axis: 1 },
      ),
      makeNode('Gemm', ['x', 'w', 'b'], ['logits']),
    ],
    [weight('w', names.length, 3), weight('b', 3)],
  );
  const split = readModel(splitModel(model).graph);
  const training = buildTrainingGraph(split, plan);
  expect(training.data).toEqual(inputs.map(({ name, dtype }) => ({ name, dtype, shape: [6, 1] })));
  expect(buildEvaluationGraph(split, { loss: 'cross-entropy', metrics: ['accuracy'] }, 6).data).toEqual(training.data);
  const [first, ...rest] = await losses(model, training, inputs, 200);
  expect(rest.at(-1)).toBeLessThan(first! / 3);
});

test.each(['int32', 'int64'])('an embedding is looked up by %s, beside numbers of another input', async (dtype) => {
  const own: Input[] = [
    {
      name: 'tokens',
      dtype,
      shape: [2],
      values: (n) => (dtype === 'int32' ? Int32Array.from(whole(n)) : BigInt64Array.from(whole(n), BigInt)),
    },
    inputs[0]!,
  ];
  const model = modelOf(
    own,
    [
      makeNode('Gather', ['table', 'tokens'], ['rows']),
      makeNode('Flatten', ['rows'], ['flat']),
      makeNode('Concat', ['flat', 'float'], ['x'], { axis: 1 }),
      makeNode('MatMul', ['x', 'w'], ['logits']),
    ],
    [weight('table', 4, 5), weight('w', 11, 3)],
  );
  const training = buildTrainingGraph(readModel(splitModel(model).graph), plan);
  const [first, ...rest] = await losses(model, training, own, 100);
  expect(rest.at(-1)).toBeLessThan(first! / 3);
});

const pooled: Input[] = [{ name: 'x', dtype: 'float', shape: ['length', 2], values: (n) => new Float32Array(n) }];
const pooling = (): ModelProto =>
  modelOf(
    pooled,
    [
      makeNode('ReduceMean', ['x'], ['mean'], { axes: [1], keepdims: 0 }),
      makeNode('MatMul', ['mean', 'w'], ['logits']),
    ],
    [weight('w', 2, 3)],
  );

test('an open size is what the plan says, and without it the error says how to', () => {
  const split = readModel(splitModel(pooling()).graph);
  expect(buildTrainingGraph(split, { ...plan, sizes: { length: 7 } }).data[0]!.shape).toEqual([6, 7, 2]);
  expect(() => buildTrainingGraph(split, plan)).toThrow(
    "input 'x' leaves more than the batch open: [-1,-1,2]; say how long with --size length=N, or export it with fixed sizes",
  );
});

test('inputs that no output is computed from are not asked for', () => {
  const [x] = pooled;
  const unused: Input = { ...x!, name: 'unused', dtype: 'string' };
  const model = modelOf([{ ...x!, shape: [4, 2] }, unused], pooling().graph!.node, [weight('w', 2, 3)]);
  expect(buildTrainingGraph(readModel(splitModel(model).graph), plan).data.map(({ name }) => name)).toEqual(['x']);
});

test('texts, single values and a trained part in other floats are refused by name', () => {
  const of = (input: Input, node: NodeProto[]) => () =>
    buildTrainingGraph(readModel(splitModel(modelOf([input], node, [weight('w', 2, 3)])).graph), plan);
  const text: Input = { ...pooled[0]!, dtype: 'string', shape: [2] };
  const plain = [makeNode('MatMul', ['x', 'w'], ['logits'])];
  expect(of(text, plain)).toThrow(/input 'x' is of type string, and training takes float, double.*--preprocess/);
  const scalar = modelOf(pooled, plain, [weight('w', 2, 3)]);
  scalar.graph!.input[0] = makeValue('x', []);
  expect(() => buildTrainingGraph(readModel(splitModel(scalar).graph), plan)).toThrow(OnnxError);
  expect(() => buildTrainingGraph(readModel(splitModel(scalar).graph), plan)).toThrow("input 'x' has no batch");
  const doubled = [
    makeNode('MatMul', ['x', 'w'], ['y']),
    makeNode('Cast', ['y'], ['wide'], { to: 11 }, 'widen'),
    makeNode('Cast', ['wide'], ['logits'], { to: FLOAT }),
  ];
  expect(of({ ...pooled[0]!, shape: [2] }, doubled)).toThrow(NotTrainableError);
  expect(of({ ...pooled[0]!, shape: [2] }, doubled)).toThrow(
    "operator Cast of node 'widen' computes in another type than float32",
  );
});

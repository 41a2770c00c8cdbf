import { create } from '@bufbuild/protobuf';
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { loadDataset } from '@commonweight/edge-agent';
import {
  calibrationGraph,
  Calibrator,
  cnn,
  decibels,
  excludeUntil,
  logistic,
  mlp,
  NoiseMeter,
  noiseProbe,
  quantizedForms,
  quantizeModel,
  readModel,
  writeModel,
  type CalibrationMethod,
  type ModelProto,
  type QuantizedForm,
} from '@commonweight/core';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  TensorProto_DataType,
} from '../../core/src/onnx/gen/onnx/onnx_pb.ts';
import { graphOf } from '../../core/src/onnx/file.ts';
import { makeModel, makeNode, makeValue } from '../../core/src/onnx/nodes.ts';
import { floatTensor, int64Tensor } from '../../core/src/onnx/tensor-data.ts';
import { accuracyOf, examplesOf, openSession, outputsOf, trainedOnDigits } from '../support/digit-models.ts';
import { temporaryFolder } from '../support/processes.ts';

const EXAMPLES = 500;
const folder = temporaryFolder('quantize');
const families = {
  logistic: { fresh: logistic({ inputs: 784, outputs: 10, seed: 1 }), dims: [784] },
  mlp: { fresh: mlp({ inputs: 784, hidden: [64, 32], outputs: 10, seed: 1 }), dims: [784] },
  cnn: { fresh: cnn({ filters: [8, 16], kernel: 3, dense: 32, seed: 1 }), dims: [1, 28, 28] },
};
type Family = keyof typeof families;
const trained = new Map<Family, { model: ModelProto; logits: Float32Array }>();
let digits: { inputs: Float32Array; labels: Int32Array };
let seen: Float32Array;

beforeAll(async () => {
  digits = examplesOf(await loadDataset('mnist?split=test'), 0, EXAMPLES);
  seen = examplesOf(await loadDataset('mnist'), 0, 200).inputs;
  for (const family of Object.keys(families) as Family[]) {
    const { fresh, dims } = families[family];
    const model = await trainedOnDigits(fresh, 200);
    trained.set(family, { model, logits: await logitsOf(model, dims) });
  }
});

afterAll(() => rm(folder, { recursive: true }));

const logitsOf = async (model: ModelProto, dims: readonly number[]): Promise<Float32Array> =>
  (await outputsOf(model, digits.inputs.slice(), [EXAMPLES, ...dims])).get('logits')!;

async function rangesOf(model: ModelProto, dims: readonly number[], method: CalibrationMethod = 'minmax') {
  const { model: graph, values } = calibrationGraph(model);
  const calibrator = new Calibrator(values);
  const outputs = await outputsOf(graph, seen.slice(), [200, ...dims]);
  calibrator.add(new Map([...outputs, ['input', seen]]));
  return calibrator.ranges({ method });
}

function sqnrDb(exact: Float32Array, other: Float32Array): number {
  let [signal, noise] = [0, 0];
  exact.forEach((value, index) => {
    signal += value ** 2;
    noise += (value - other[index]!) ** 2;
  });
  return decibels(signal, noise);
}

/** Least signal to noise of the logits, in decibels: 2 to 4 below the worst of the three families when this was written. */
const sqnrMin: Record<QuantizedForm, number> = {
  'dynamic-int8': 40,
  'static-int8': 39,
  'int8-blocks': 39,
  'int4-blocks': 19,
  fp16: 68,
};

describe.each(Object.keys(families) as Family[])('%s', (family) => {
  test.each(quantizedForms)('%s keeps its outputs and its accuracy, through a file', async (form) => {
    const { model, logits } = trained.get(family)!;
    const { dims } = families[family];
    const ranges = form === 'static-int8' ? await rangesOf(model, dims) : new Map();
    const quantized = readModel(writeModel(quantizeModel(model, form, { ranges }).model));
    const other = await logitsOf(quantized, dims);
    expect(sqnrDb(logits, other)).toBeGreaterThan(sqnrMin[form]);
    const drop = accuracyOf(logits, digits.labels) - accuracyOf(other, digits.labels);
    expect(drop).toBeLessThanOrEqual(form === 'int4-blocks' ? 0.02 : 0.005);
    expect(writeModel(quantized).length).toBeLessThan(writeModel(model).length);
  });

  test.each(['percentile', 'entropy', 'mse'] as const)(
    'static-int8 calibrated with %s is as accurate',
    async (method) => {
      const { model, logits } = trained.get(family)!;
      const { dims } = families[family];
      const ranges = await rangesOf(model, dims, method);
      const other = await logitsOf(quantizeModel(model, 'static-int8', { ranges, activations: 'int8' }).model, dims);
      expect(accuracyOf(logits, digits.labels) - accuracyOf(other, digits.labels)).toBeLessThanOrEqual(0.01);
    },
  );
});

/**
 * Operators of the graph that ONNX Runtime makes of a model and runs, in their order. On x86 it turns int8 activations into uint8 before
 * it fuses, but not in a graph with branches; `takesInt8` has it fuse them as they are.
 */
async function operatorsRun(model: ModelProto, takesInt8 = false): Promise<string[]> {
  const optimizedModelFilePath = join(folder, 'optimized.onnx');
  const session = await ort.InferenceSession.create(writeModel(model), {
    intraOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    optimizedModelFilePath,
    ...(takesInt8 ? { extra: { session: { qdqisint8allowed: '1' } } } : {}),
  });
  await session.release();
  return readModel(readFileSync(optimizedModelFilePath)).graph!.node.map(({ opType }) => opType);
}

/** Branches, a residual sum and a pooled mean, which stay on codes between the layers. */
function residual(): ModelProto {
  const wave = (name: string, shape: readonly number[]) => {
    const length = shape.reduce((product, axis) => product * axis, 1);
    return floatTensor(
      name,
      shape,
      Float32Array.from({ length }, (_, index) => Math.sin((index + 1) * 1.7) * 0.5),
    );
  };
  const padded = { kernel_shape: [3, 3], pads: [1, 1, 1, 1] };
  return makeModel({
    name: 'residual',
    node: [
      makeNode('Conv', ['input', 'first', 'b'], ['one'], padded),
      makeNode('Relu', ['one'], ['active']),
      makeNode('Conv', ['active', 'second', 'b'], ['two'], padded),
      makeNode('Add', ['two', 'active'], ['sum']),
      makeNode('Conv', ['active', 'second', 'b'], ['three'], padded),
      makeNode('Concat', ['sum', 'three'], ['both'], { axis: 1 }),
      makeNode('GlobalAveragePool', ['both'], ['pooled']),
      makeNode('Flatten', ['pooled'], ['flat']),
      makeNode('MatMul', ['flat', 'matrix'], ['logits']),
    ],
    initializer: [wave('first', [4, 1, 3, 3]), wave('second', [4, 4, 3, 3]), wave('b', [4]), wave('matrix', [8, 10])],
    input: [makeValue('input', ['n', 1, 28, 28])],
    output: [makeValue('logits', ['n', 10])],
  });
}

describe.each(['uint8', 'int8'] as const)('with activations as %s, onnxruntime fuses static-int8 of', (activations) => {
  const fused: Record<Family | 'residual', Record<string, number>> = {
    logistic: { QGemm: 1 },
    mlp: { QGemm: 3 },
    cnn: { QLinearConv: 2, QGemm: 2 },
    residual: { QLinearConv: 3, QLinearAdd: 1, QLinearConcat: 1, QLinearGlobalAveragePool: 1, MatMulIntegerToFloat: 1 },
  };
  /** What computes with floats, or stands between codes and floats. */
  const floats = /^(?:Fused)?(?:Conv|Gemm|MatMul|Add|Concat|GlobalAveragePool|Relu)$|^DequantizeLinear$/;

  test.each(Object.keys(fused) as (keyof typeof fused)[])('%s, every layer of it', async (name) => {
    const model = name === 'residual' ? residual() : trained.get(name)!.model;
    const ranges = await rangesOf(model, name === 'residual' ? [1, 28, 28] : families[name].dims);
    const { model: quantized } = quantizeModel(model, 'static-int8', { ranges, activations });
    const operators = await operatorsRun(quantized, name === 'residual' && activations === 'int8');
    const counts = Object.fromEntries(
      Object.keys(fused[name]).map((one) => [one, operators.filter((operator) => operator === one).length]),
    );
    expect(counts).toEqual(fused[name]);
    expect(operators.filter((operator) => floats.test(operator))).toEqual([]);
    // The input alone is rounded.
    expect(operators.filter((operator) => operator === 'QuantizeLinear')).toHaveLength(1);
    expect((await operatorsRun(model)).filter((operator) => floats.test(operator))).not.toEqual([]);
  });
});

test('ranges of two halves of the data add up to the ranges of all of it', async () => {
  const { model } = trained.get('cnn')!;
  const { model: graph, values } = calibrationGraph(model);
  const halves = await Promise.all(
    [0, 100].map(async (start) => {
      const inputs = seen.slice(start * 784, (start + 100) * 784);
      const calibrator = new Calibrator(values);
      calibrator.add(new Map([...(await outputsOf(graph, inputs.slice(), [100, 1, 28, 28])), ['input', inputs]]));
      return calibrator;
    }),
  );
  halves[0]!.merge(halves[1]!);
  expect(halves[0]!.ranges({ method: 'mse' })).toEqual(await rangesOf(model, [1, 28, 28], 'mse'));
});

test('a layer that is excluded stays, by name and by operator', () => {
  const { model } = trained.get('cnn')!;
  const layersOf = (...exclude: string[]): string[] =>
    quantizeModel(model, 'dynamic-int8', { exclude }).layers.map(({ node }) => node);
  expect([layersOf(), layersOf('hid*')]).toEqual([['hidden', 'output'], ['output']]);
  expect(() => layersOf('Gemm')).toThrow('nothing to quantize');
});

test('a model that has all its layers in branches is refused by that reason', () => {
  const value = makeValue('y', ['batch', 4]);
  const branch = graphOf(
    makeModel({
      name: 'branch',
      node: [makeNode('MatMul', ['x', 'w'], ['y'])],
      initializer: [floatTensor('w', [4, 4], new Float32Array(16).fill(0.5))],
      input: [],
      output: [value],
    }),
  );
  const choice = { ...makeNode('If', ['wide'], ['y']), name: 'choice' };
  const attribute = ['then_branch', 'else_branch'].map((name) =>
    create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.GRAPH, g: branch }),
  );
  const model = makeModel({
    name: 'model',
    node: [{ ...choice, attribute }],
    initializer: [],
    input: [makeValue('x', ['batch', 4]), makeValue('wide', [], TensorProto_DataType.BOOL)],
    output: [value],
  });
  for (const form of quantizedForms) {
    expect(() => quantizeModel(model, form, { ranges: new Map() })).toThrow(
      /node 'choice' \(If\) holds a graph of its own/,
    );
  }
  expect(() => calibrationGraph(model)).toThrow(/node 'choice' \(If\) holds a graph of its own/);
});

test('a model that is quantized already is refused, and one with weights that are not finite', () => {
  const { model } = trained.get('mlp')!;
  for (const form of ['dynamic-int8', 'int4-blocks'] as const) {
    const once = quantizeModel(model, form).model;
    expect(() => quantizeModel(once, 'dynamic-int8')).toThrow('quantized already');
  }
  const broken = oneLayer(Float32Array.of(1, Infinity, 0, 1));
  expect(() => quantizeModel(broken, 'dynamic-int8')).toThrow('infinity or NaN');
});

const oneLayer = (weights: Float32Array): ModelProto =>
  makeModel({
    name: 'one',
    node: [makeNode('MatMul', ['x', 'w'], ['y'])],
    initializer: [floatTensor('w', [2, 2], weights)],
    input: [makeValue('x', ['n', 2])],
    output: [makeValue('y', ['n', 2])],
  });

test('batch norms disappear into their convolutions, and the function stays', async () => {
  const ramp = (length: number, scale: number): Float32Array =>
    Float32Array.from({ length }, (_, index) => Math.sin(index + 1) * scale);
  const model = makeModel({
    name: 'norm',
    node: [
      makeNode('Identity', ['input'], ['same']),
      makeNode('Conv', ['same', 'w'], ['conv'], { kernel_shape: [3, 3] }),
      makeNode('BatchNormalization', ['conv', 'gain', 'beta', 'mean', 'variance'], ['normed']),
      makeNode('Relu', ['normed'], ['active']),
      makeNode('Add', ['normed', 'active'], ['sum']),
      makeNode('GlobalAveragePool', ['sum'], ['pooled']),
      makeNode('Reshape', ['pooled', 'shape'], ['flat']),
      makeNode('MatMul', ['flat', 'matrix'], ['logits']),
      makeNode('Relu', ['conv2'], ['dead']),
    ].slice(0, 8),
    initializer: [
      floatTensor('w', [4, 1, 3, 3], ramp(36, 1)),
      floatTensor('gain', [4], Float32Array.of(1, 2, 0.5, -1)),
      floatTensor('beta', [4], ramp(4, 1)),
      floatTensor('mean', [4], ramp(4, 2)),
      floatTensor('variance', [4], Float32Array.of(1, 2, 3, 4)),
      int64Tensor('shape', [-1, 4]),
      floatTensor('matrix', [4, 10], ramp(40, 1)),
    ],
    input: [makeValue('input', ['n', 1, 28, 28])],
    output: [makeValue('logits', ['n', 10])],
  });
  const exact = await logitsOf(model, [1, 28, 28]);
  const graph = calibrationGraph(model).model;
  expect(graph.graph!.node.map(({ opType }) => opType)).toEqual([
    'Conv',
    'Relu',
    'Add',
    'GlobalAveragePool',
    'Reshape',
    'MatMul',
  ]);
  expect(sqnrDb(exact, await logitsOf(graph, [1, 28, 28]))).toBeGreaterThan(110);
  const ranges = await rangesOf(model, [1, 28, 28]);
  const quantized = quantizeModel(model, 'static-int8', { ranges }).model;
  expect(sqnrDb(exact, await logitsOf(quantized, [1, 28, 28]))).toBeGreaterThan(25);
});

describe('sensitivity', () => {
  async function noiseOf(form: QuantizedForm) {
    const { model } = trained.get('cnn')!;
    const ranges = await rangesOf(model, [1, 28, 28]);
    const probe = noiseProbe(model, form, { ranges });
    const meter = new NoiseMeter(probe);
    meter.add(await outputsOf(probe.model, seen.slice(), [200, 1, 28, 28]));
    return meter.report();
  }

  test.each([
    ['static-int8', ['conv1', 'conv2', 'hidden', 'output'], 25, 60],
    ['dynamic-int8', ['hidden', 'output'], 35, 60],
    ['int4-blocks', ['hidden', 'output'], 12, 40],
  ] as const)('%s reports each layer once, noisiest first', async (form, names, min, max) => {
    const report = await noiseOf(form);
    expect(report.map(({ node }) => node).sort()).toEqual(names);
    expect(report.map(({ sqnrDb: db }) => db)).toEqual(report.map(({ sqnrDb: db }) => db).sort((a, b) => a - b));
    for (const { sqnrDb: db } of report) expect([db > min, db < max]).toEqual([true, true]);
  });

  test('as few of the noisiest as it takes are left out, in few trials', async () => {
    const layers = Array.from({ length: 100 }, (_, index) => ({ node: `n${index}`, operator: 'Gemm' }));
    for (const needed of [0, 1, 2, 37, 99]) {
      let trials = 0;
      const kept = await excludeUntil(layers, (names) => {
        trials += 1;
        return Promise.resolve(names.size >= needed);
      });
      expect([kept.size, trials < 16]).toEqual([needed, true]);
    }
    for (const some of [layers, layers.slice(0, 1), []]) {
      const hopeless = excludeUntil(some, () => Promise.resolve(false));
      await expect(hopeless).rejects.toThrow('the bound holds for no layer');
    }
  });
});

test('an embedding table and a scaled Gemm keep their outputs', async () => {
  const wave = (length: number): Float32Array => Float32Array.from({ length }, (_, index) => Math.sin(index * 1.7));
  const model = makeModel({
    name: 'table',
    node: [
      makeNode('Gather', ['table', 'ids'], ['rows']),
      makeNode('Gemm', ['rows', 'w', 'b'], ['y'], { alpha: { float: 0.5 }, beta: { float: 2 }, transB: 1 }),
    ],
    initializer: [
      floatTensor('table', [50, 32], wave(1600)),
      floatTensor('w', [8, 32], wave(256)),
      floatTensor('b', [8], wave(8)),
    ],
    input: [makeValue('ids', ['n'], 7)],
    output: [makeValue('y', ['n', 8])],
  });
  const run = async (one: ModelProto): Promise<Float32Array> => {
    const ids = new ort.Tensor('int64', BigInt64Array.of(0n, 7n, 49n), [3]);
    return (await (await openSession(one)).run({ ids }))['y']!.data as Float32Array;
  };
  const exact = await run(model);
  for (const form of ['dynamic-int8', 'int8-blocks', 'fp16'] as const) {
    expect(sqnrDb(exact, await run(quantizeModel(model, form).model))).toBeGreaterThan(35);
  }
  const { model: coarse } = quantizeModel(model, 'dynamic-int8', { weightBits: 4 });
  const codes = coarse.graph!.initializer.find(({ name }) => name === 'table_row_codes')!.rawData;
  expect(Math.max(...new Int8Array(Uint8Array.from(codes).buffer).map(Math.abs))).toBe(7);
});

test.each(['forward', 'bidirectional'])('a %s LSTM keeps its outputs with int8 weights', async (direction) => {
  const [directions, hidden, size, steps] = [direction === 'forward' ? 1 : 2, 24, 28, 28];
  const wave = (name: string, shape: readonly number[], step: number) => {
    const length = shape.reduce((product, axis) => product * axis, 1);
    return floatTensor(
      name,
      shape,
      Float32Array.from({ length }, (_, index) => Math.sin(index * step) * 0.4),
    );
  };
  const model = makeModel({
    name: 'recurrent',
    node: [makeNode('LSTM', ['x', 'w', 'r', 'b'], ['y'], { hidden_size: hidden, direction })],
    initializer: [
      wave('w', [directions, 4 * hidden, size], 1.7),
      wave('r', [directions, 4 * hidden, hidden], 2.3),
      wave('b', [directions, 8 * hidden], 0.9),
    ],
    input: [makeValue('x', [steps, 'n', size])],
    output: [makeValue('y', [steps, directions, 'n', hidden])],
  });
  const rows = digits.inputs.slice(0, steps * 5 * size);
  const outputs = async (one: ModelProto): Promise<Float32Array> =>
    (await outputsOf(one, rows.slice(), [steps, 5, size])).get('y')!;
  const { model: quantized, layers } = quantizeModel(model, 'dynamic-int8');
  expect(layers.map(({ operator }) => operator)).toEqual(['LSTM']);
  expect(sqnrDb(await outputs(model), await outputs(quantized))).toBeGreaterThan(30);
  const probe = noiseProbe(model, 'dynamic-int8');
  const meter = new NoiseMeter(probe);
  meter.add(await outputsOf(probe.model, rows.slice(), [steps, 5, size]));
  expect(meter.report().map(({ operator, sqnrDb: db }) => [operator, db > 30])).toEqual([['LSTM', true]]);
});

test('attention that scales both sides of its product, as PyTorch exports it, is loaded in float16 and keeps its outputs', async () => {
  const wave = (length: number): Float32Array => Float32Array.from({ length }, (_, index) => Math.sin(index * 1.7));
  const half = (from: string, name: string): ReturnType<typeof makeNode>[] => [
    makeNode('Reshape', [from, 'merged'], [`${name}0`]),
    makeNode('Transpose', [`${name}0`], [`${name}1`], { perm: [1, 0, 2] }),
    makeNode('Reshape', [`${name}1`, 'heads'], [name]),
  ];
  const model = makeModel({
    name: 'attention',
    node: [
      makeNode('Transpose', ['input'], ['turned'], { perm: [1, 0, 2] }),
      makeNode('MatMul', ['turned', 'w'], ['projected']),
      ...half('projected', 'q'),
      ...half('projected', 'k'),
      makeNode('Mul', ['q', 'scale'], ['scaledQ']),
      makeNode('Transpose', ['k'], ['turnedK'], { perm: [0, 1, 3, 2] }),
      makeNode('Mul', ['turnedK', 'scale'], ['scaledK']),
      makeNode('MatMul', ['scaledQ', 'scaledK'], ['y']),
    ],
    initializer: [
      floatTensor('scale', [], Float32Array.of(0.7)),
      floatTensor('w', [16, 16], wave(256)),
      int64Tensor('merged', [4, 8, 4]),
      int64Tensor('heads', [2, 4, 4, 4]),
    ],
    input: [makeValue('input', [2, 4, 16])],
    output: [makeValue('y', [2, 4, 4, 4])],
  });
  const outputs = async (one: ModelProto): Promise<Float32Array> =>
    (await outputsOf(one, wave(128), [2, 4, 16])).get('y')!;
  const { model: small, kept } = quantizeModel(model, 'fp16');
  expect(kept.map(({ node }) => node)).toEqual(['scaledK']);
  expect(sqnrDb(await outputs(model), await outputs(small))).toBeGreaterThan(50);
});

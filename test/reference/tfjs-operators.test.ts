/** The operators of the tfjs engine: values as the reference has them, and gradients, by TensorFlow.js's own differentiation, as ours. */
import type { Tensor } from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { gradients } from '../../core/src/autodiff/gradients.ts';
import { writeModel } from '../../core/src/onnx/file.ts';
import { GraphBuilder } from '../../core/src/onnx/graph-builder.ts';
import { makeModel, makeNode, makeValue, type Attributes } from '../../core/src/onnx/nodes.ts';
import { EngineError } from '../../edge-agent/src/training/engine.ts';
import { loadTfjs } from '../../edge-agent/src/training/engines/tfjs/load-tfjs.ts';
import { operators } from '../../edge-agent/src/training/engines/tfjs/operators.ts';
import { generator } from './differences.ts';
import { evaluate } from './evaluate.ts';
import { gradientRows, setUp } from './gradient-cases.ts';

const SEEDS = 12;
const BOOL = 9;

/** What it refuses, with the reason: all else has to be right. */
const REFUSES: Readonly<Record<string, RegExp>> = {
  Conv: /with strides and dilations at once|in three dimensions with dilations/,
  ConvTranspose: /of 3 dimensions|with dilations/,
  MaxPool: /with dilations/,
};

const { tf, runsOn } = await loadTfjs();

test('WebAssembly is taken where nothing native is installed, with kernels of its own for what it lacks', () => {
  expect(runsOn).toBe('@tensorflow/tfjs-backend-wasm 4.22.0');
  expect(tf.getBackend()).toBe('wasm');
});

test.each(gradientRows.filter(({ title, operator }) => title === operator))(
  'the tfjs engine computes $title and its gradient, or says that it does not',
  ({ operator, forms, makeCase }) => {
    expect(Object.keys(operators)).toContain(operator);
    let computed = 0;
    for (let seed = 0; seed < SEEDS; seed++) {
      const uniform = generator(seed);
      const example = makeCase!((...sides) => sides[Math.floor(uniform() * sides.length)]!);
      const { graph, names, seeds, found, feeds } = setUp(operator, example, uniform, forms);
      const reference = evaluate(graph, feeds);
      const node = graph.nodes.find(({ output }) => output[0] === 'y')!;
      const tensors = new Map<string, Tensor>();
      for (const name of node.input) {
        if (name === '' || names.includes(name)) continue;
        const values = reference.get(name);
        if (values === undefined) continue;
        const type = graph.isFloat(name) ? 'float32' : graph.typeOf(name).elemType === BOOL ? 'bool' : 'int32';
        tensors.set(name, tf.cast(tf.tensor(Float32Array.from(values), [...graph.shapeOf(name)]), type));
      }
      const at = names.map((name) => tf.tensor(Float32Array.from(feeds.get(name)!), [...graph.shapeOf(name)]));
      let ys: Tensor[] = [];
      const compute = (...x: Tensor[]): Tensor => {
        const inputs = node.input.map((name) => (names.includes(name) ? x[names.indexOf(name)] : tensors.get(name)));
        const result = operators[operator]!({ tf, node, graph, inputs });
        ys = (Array.isArray(result) ? result : [result]).map((y) => tf.keep(y));
        const parts = [...seeds].map(([y, seedName]) => {
          const dy = tf.tensor(Float32Array.from(feeds.get(seedName)!), [...graph.shapeOf(y)]);
          return tf.sum(tf.mul(ys[node.output.indexOf(y)]!, dy));
        });
        return parts.reduce((sum, part) => tf.add(sum, part));
      };
      try {
        const { grads } = tf.valueAndGrads(compute)(at);
        [...seeds.keys()].forEach((name, index) => close(ys[index], reference.get(name), graph.shapeOf(name)));
        names.forEach((name, index) => close(grads[index], reference.get(found.get(name)!), graph.shapeOf(name)));
        computed++;
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        expect(error.message).toMatch(REFUSES[operator] ?? /^$/);
      }
    }
    expect(computed).toBeGreaterThan(0);
  },
);

function close(tensor: Tensor | undefined, wanted: Float64Array | undefined, shape: readonly number[]): void {
  if (wanted === undefined) return;
  expect(tensor?.shape).toEqual([...shape]);
  const values = tensor!.dataSync();
  const size = 1 + wanted.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  wanted.forEach((value, at) => expect(Math.abs(value - values[at]!) / size).toBeLessThan(2e-4));
}

/** What has a value and no slope: a node's inputs, attributes and constants by position. */
const flatOnes: readonly {
  operator: string;
  inputs: readonly Float32Array[];
  shape: number[];
  attributes?: Attributes;
  integers?: readonly number[];
}[] = [
  ...['Floor', 'Ceil', 'Round', 'Sign'].map((operator) => {
    return { operator, shape: [2, 3], inputs: [Float32Array.of(-1.5, -0.5, 0, 0.5, 1.5, 2.2)] };
  }),
  ...['Equal', 'Greater', 'Less', 'GreaterOrEqual', 'LessOrEqual'].map((operator) => {
    return { operator, shape: [4], inputs: [Float32Array.of(1, 2, 3, -4), Float32Array.of(1, 3, 2, -4)] };
  }),
  ...['ArgMax', 'ArgMin'].flatMap((operator) =>
    [0, 1].map((keepdims) => {
      const attributes = { axis: -1, keepdims };
      return { operator, shape: [2, 3], attributes, inputs: [Float32Array.of(3, 1, 2, -1, 5, 4)] };
    }),
  ),
  {
    operator: 'Mod',
    shape: [4],
    attributes: { fmod: 1 },
    inputs: [Float32Array.of(5, 7, 9, 4), Float32Array.of(3, 4, 5, 2)],
  },
  { operator: 'TopK', shape: [2, 4], integers: [2], inputs: [Float32Array.of(3, 1, 2, 7, -1, 5, 4, 0)] },
];

test.each(flatOnes)('the tfjs engine computes $operator as ONNX Runtime does', async (one) => {
  const { operator, shape, inputs, attributes = {}, integers } = one;
  const graph = new GraphBuilder('test/');
  const names = inputs.map((_, index) => graph.input(`x${index}`, shape));
  const given = [...names, ...(integers === undefined ? [] : [graph.integers(integers)])];
  const outputs = operator === 'TopK' ? ['y', 'places'] : ['y'];
  const node = makeNode(operator, given, outputs, attributes);
  graph.append(node);
  const model = makeModel({
    name: operator,
    node: graph.nodes,
    initializer: graph.initializers,
    input: graph.inputs,
    output: outputs.map((name) => makeValue(name, graph.shapeOf(name), graph.typeOf(name).elemType)),
  });
  const session = await ort.InferenceSession.create(writeModel(model), { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const feeds = names.map((name, index) => [name, new ort.Tensor('float32', inputs[index]!, shape)] as const);
  const wanted = await session.run(Object.fromEntries(feeds));
  const result = operators[operator]!({ tf, node, graph, inputs: inputs.map((numbers) => tf.tensor(numbers, shape)) });
  for (const [index, tensor] of (Array.isArray(result) ? result : [result]).entries()) {
    const { data, dims } = wanted[outputs[index]!]!;
    expect(tensor.shape).toEqual(dims);
    expect(Array.from(tensor.dataSync(), Number)).toEqual(Array.from(data as ArrayLike<number | bigint>, Number));
  }
  await session.release();
});

test('every operator that has a gradient is one of the tfjs engine', () => {
  expect(Object.keys(gradients).filter((operator) => !Object.hasOwn(operators, operator))).toEqual([]);
});

import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { evaluate } from '../../../test/reference/evaluate.ts';
import { cnn } from '../models/cnn.ts';
import { logistic, mlp } from '../models/mlp.ts';
import { graphOf, readModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { dimsOf, floatTensor, floatValues, int64Tensor } from '../onnx/tensor-data.ts';
import { seeded } from '../random/stream.ts';
import { sizeOf } from '../tensor/shape.ts';
import { attributionRuns, AttributionSum } from './attribution.ts';
import type { Attribution } from './attribution.ts';
import { buildAttributionGraph } from './attribution-graph.ts';
import type { AttributionGraph, AttributionOptions } from './attribution-graph.ts';
import { gaussLegendre, pathOf } from './path.ts';
import type { PathOptions } from './path.ts';

type Row = Readonly<Record<string, ArrayLike<number>>>;

/** The graph in float64, by the reference. */
function calculator(graph: AttributionGraph): (feeds: Map<string, Float64Array>) => Map<string, Float64Array> {
  const { node, input, initializer } = graphOf(readModel(graph.model));
  const builder = new GraphBuilder('again/');
  for (const tensor of initializer) builder.initializer(tensor);
  for (const { name, type } of input) {
    if (type?.value.case !== 'tensorType') throw new Error(`'${name}' is no tensor`);
    const { elemType, shape } = type.value.value;
    builder.input(
      name,
      shape!.dim.map(({ value }) => Number(value.value)),
      elemType,
    );
  }
  for (const one of node) builder.append(one);
  return (feeds) => evaluate(builder, feeds);
}

/** Explains one row, in float64. */
function explained(
  model: ModelProto,
  row: Row,
  baseline: Row,
  { index = 0, ...options }: PathOptions & Partial<AttributionOptions> & { index?: number } = {},
): Attribution {
  const graph = buildAttributionGraph(model, { points: 8, ...options });
  const run = calculator(graph);
  const selector = new Float64Array(graph.output.values);
  selector[index] = 1;
  const sum = new AttributionSum(graph, index);
  for (const { positions, shares } of attributionRuns(graph, pathOf(options))) {
    const feeds = new Map([
      [graph.positions, Float64Array.from(positions)],
      [graph.shares, Float64Array.from(shares)],
      [graph.selector.name, selector],
    ]);
    for (const { name, value, baseline: from } of graph.inputs) {
      feeds.set(value, Float64Array.from(row[name]!));
      if (from !== undefined) feeds.set(from, Float64Array.from(baseline[name]!));
    }
    sum.add(Object.fromEntries(run(feeds)));
  }
  return sum.result();
}

const sumOf = (values: ArrayLike<number>): number => Array.from(values).reduce((sum, value) => sum + value, 0);

/** Two smooth layers, so that a quadrature rule can be nearly exact. */
function smooth(seed: number): ModelProto {
  const random = seeded(seed);
  const weights = (name: string, shape: number[]): TensorProto =>
    floatTensor(
      name,
      shape,
      Float32Array.from({ length: sizeOf(shape) }, () => random.normal() / 2),
    );
  return makeModel({
    name: 'smooth',
    node: [
      makeNode('Gemm', ['x', 'w1', 'b1'], ['z1']),
      makeNode('Tanh', ['z1'], ['h1']),
      makeNode('Gemm', ['h1', 'w2', 'b2'], ['z2']),
      makeNode('Softmax', ['z2'], ['y'], { axis: -1 }),
    ],
    initializer: [weights('w1', [4, 6]), weights('b1', [6]), weights('w2', [6, 3]), weights('b2', [3])],
    input: [makeValue('x', ['batch', 4])],
    output: [makeValue('y', ['batch', 3])],
  });
}

test('the points of the quadrature integrate polynomials up to their degree exactly', () => {
  for (const n of [1, 2, 3, 5, 16, 64, 512]) {
    const points = gaussLegendre(n);
    expect(points.every(({ position, share }) => position > 0 && position < 1 && share > 0)).toBe(true);
    expect(sumOf(points.map(({ share }) => share))).toBeCloseTo(1, 12);
    for (const degree of [1, 2, 3, 4, 9].filter((power) => power <= 2 * n - 1)) {
      const integral = sumOf(points.map(({ position, share }) => share * position ** degree));
      expect(integral).toBeCloseTo(1 / (degree + 1), 12);
    }
  }
});

test('of a linear model each number adds its weight times how far it is from the baseline', () => {
  const model = logistic({ inputs: 5, outputs: 3, seed: 4 });
  const weight = graphOf(model).initializer.find((tensor) => dimsOf(tensor).length === 2)!;
  const weights = floatValues(weight);
  const [rows] = dimsOf(weight);
  const row = [0.5, -1, 2, 0, 3];
  const baseline = [0.25, 0, 1, 1, 1];
  const expected = (index: number): number[] =>
    row.map(
      (value, at) => (rows === 5 ? weights[at * 3 + index]! : weights[index * 5 + at]!) * (value - baseline[at]!),
    );
  for (const index of [0, 2]) {
    const found = (options: PathOptions): Attribution =>
      explained(model, { input: row }, { input: baseline }, { ...options, index });
    for (const options of [{ steps: 1 }, { method: 'gradient-x-input' }] as const) {
      const { attributions, gap } = found(options);
      expect([...attributions.get('input')!]).toEqual(expected(index));
      expect(Math.abs(gap)).toBeLessThan(1e-14);
    }
    // Several shares are rounded to float32, and so is their sum.
    const own = [...found({ steps: 7 }).attributions.get('input')!];
    own.forEach((value, at) => expect(value / expected(index)[at]!).toBeCloseTo(1, 6));
  }
});

test('completeness: attributions add up to the difference of the answers', () => {
  const number = fc.double({ min: -2, max: 2, noNaN: true });
  const rows = fc.array(number, { minLength: 4, maxLength: 4 });
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 1e6 }),
      rows,
      rows,
      fc.integer({ min: 0, max: 2 }),
      (seed, x, base, index) => {
        const found = explained(smooth(seed), { x }, { x: base }, { index, steps: 40 });
        expect(Math.abs(found.gap)).toBeLessThan(1e-6);
        expect(sumOf(found.attributions.get('x')!)).toBeCloseTo(found.value - found.baselineValue, 5);
      },
    ),
    { numRuns: 40 },
  );
});

test('a network with kinks misses completeness by little, and by less with more steps', () => {
  const model = mlp({ inputs: 6, hidden: [12, 8], outputs: 3, seed: 3 });
  const worst = (steps: number): number => {
    const random = seeded(9);
    const draw = (): number[] => Array.from({ length: 6 }, () => random.normal());
    const gaps = Array.from({ length: 10 }, () => {
      const found = explained(model, { input: draw() }, { input: draw() }, { steps });
      return Math.abs(found.gap) / Math.max(0.1, Math.abs(found.value - found.baselineValue));
    });
    return Math.max(...gaps);
  };
  expect(worst(256)).toBeLessThan(0.02);
  expect(worst(256)).toBeLessThan(worst(4));
});

test('gradient x input is the central difference times the input', () => {
  for (const [model, size] of [
    [smooth(5), 4],
    [cnn({ height: 6, width: 6, channels: 1, filters: [2], dense: 5, outputs: 3, seed: 1 }), 36],
  ] as const) {
    const random = seeded(8);
    const x = Array.from({ length: size }, () => random.normal());
    const zeros = { x: new Float64Array(size), input: new Float64Array(size) };
    const at = (row: number[]): number => explained(model, { x: row, input: row }, zeros, { index: 1, steps: 1 }).value;
    const found = explained(model, { x, input: x }, zeros, { index: 1, method: 'gradient-x-input' });
    const [values] = found.attributions.values();
    const step = 1e-5;
    x.forEach((value, place) => {
      const moved = (by: number): number => at(x.map((each, index) => (index === place ? each + by : each)));
      expect(values![place]!).toBeCloseTo((value * (moved(step) - moved(-step))) / (2 * step), 6);
    });
  }
});

/** Tokens, a table, a mean over the sequence, and a head. A mask takes padding out. */
function tokenModel(): ModelProto {
  const random = seeded(6);
  const floats = (name: string, shape: number[]): TensorProto =>
    floatTensor(
      name,
      shape,
      Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
    );
  const node: NodeProto[] = [
    makeNode('Add', ['tokens', 'one'], ['shifted']),
    makeNode('Gather', ['table', 'shifted'], ['vectors'], { axis: 0 }),
    makeNode('Tanh', ['vectors'], ['bent']),
    makeNode('ReduceMean', ['bent'], ['mean'], { axes: [1], keepdims: 0 }),
    makeNode('MatMul', ['mean', 'head'], ['y']),
  ];
  return makeModel({
    name: 'tokens',
    node,
    initializer: [floats('table', [9, 3]), floats('head', [3, 2]), int64Tensor('one', [1], [])],
    input: [makeValue('tokens', ['batch', 4], TensorProto_DataType.INT64)],
    output: [makeValue('y', ['batch', 2])],
  });
}

test('tokens are explained at the vectors that they are looked up as', () => {
  const tokens = [3, 7, 0, 5];
  const model = tokenModel();
  const graph = buildAttributionGraph(model, { points: 4 });
  expect(graph.inputs).toMatchObject([{ name: 'tokens', at: 'embedding', shape: [1, 4] }]);
  const found = explained(model, { tokens }, { tokens: [0, 0, 0, 0] }, { steps: 30, index: 1 });
  const own = found.attributions.get('tokens')!;
  expect(own).toHaveLength(4);
  expect(Math.abs(found.gap)).toBeLessThan(1e-8);
  // The token that is the baseline's own adds nothing.
  expect(own[2]).toBe(0);
  expect(own[0]).not.toBe(0);
});

test('a model whose batch is fixed is explained point by point', () => {
  const model = smooth(3);
  const graph = graphOf(model);
  const fixed = { ...model, graph: { ...graph, input: [makeValue('x', [1, 4])], output: [makeValue('y', [1, 3])] } };
  const [x, base] = [{ x: [1, 2, -1, 0.5] }, { x: [0, 0, 0, 0] }];
  const [one, many] = [fixed, model].map((each) => explained(each, x, base, { index: 2, steps: 9 }));
  expect(buildAttributionGraph(fixed, { points: 16 }).points).toBe(1);
  expect([...one!.attributions.get('x')!].map((value) => value.toFixed(10))).toEqual(
    [...many!.attributions.get('x')!].map((value) => value.toFixed(10)),
  );
});

test('what has no gradient says so, and names the node or the outputs', () => {
  const model = smooth(1);
  const graph = graphOf(model);
  const labelled = {
    ...model,
    graph: {
      ...graph,
      node: [...graph.node, makeNode('ArgMax', ['y'], ['label'], { axis: 1 }, 'choice')],
      output: [makeValue('label', ['batch'], TensorProto_DataType.INT64), ...graph.output],
    },
  };
  // The first output of float numbers is taken.
  expect(buildAttributionGraph(labelled, { points: 2 }).output.name).toBe('y');
  expect(() => buildAttributionGraph(labelled, { points: 2, output: 'label' })).toThrow(
    "the model has no output 'label' of float numbers; it has 'y'",
  );
  const rounded = {
    ...model,
    graph: {
      ...graph,
      node: graph.node.map((node) => (node.opType === 'Tanh' ? { ...node, opType: 'Round', name: 'steps' } : node)),
    },
  };
  expect(() => buildAttributionGraph(rounded, { points: 2 })).toThrow(/Round of node 'steps'/);
  const tokens = tokenModel();
  const counted = {
    ...tokens,
    graph: {
      ...graphOf(tokens),
      node: [makeNode('Cast', ['tokens'], ['numbers'], { to: 1 }), makeNode('MatMul', ['numbers', 'head'], ['y'])],
      initializer: [floatTensor('head', [4, 2], new Float32Array(8))],
    },
  };
  expect(() => buildAttributionGraph(counted, { points: 2 })).toThrow(
    "it is no differentiable function of the inputs 'tokens' of int64, nor a table (Gather)",
  );
  expect(() => pathOf({ steps: 0 })).toThrow('steps must be a whole number from 1 to 512');
});

import { create } from '@bufbuild/protobuf';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { draw, generator, worstGap } from '../../../../test/reference/differences.ts';
import type { Numbers } from '../../../../test/reference/differences.ts';
import { evaluate } from '../../../../test/reference/evaluate.ts';
import { NotTrainableError } from '../../onnx/errors.ts';
import { writeModel } from '../../onnx/file.ts';
import { OperatorSetIdProtoSchema } from '../../onnx/gen/onnx/onnx_pb.ts';
import type { NodeProto } from '../../onnx/gen/onnx/onnx_pb.ts';
import { GraphBuilder } from '../../onnx/graph-builder.ts';
import { makeModel, makeNode, makeValue } from '../../onnx/nodes.ts';
import type { Attributes } from '../../onnx/nodes.ts';
import { floatTensor, int64Tensor } from '../../onnx/tensor-data.ts';
import { sizeOf } from '../../tensor/shape.ts';
import { differentiate } from '../backward.ts';
import { rewrites, writeNode } from './write-node.ts';

interface Case {
  inputs: (number[] | '')[];
  outputs?: string[];
  attributes?: Attributes;
  numbers?: Numbers;
  /** Positions of inputs that nothing depends on. */
  fixed?: number[];
  domain?: string;
  /** Newest operator set by default. */
  opset?: number;
}

type Dice = (...sides: readonly number[]) => number;

const unary = (dice: Dice): Case => ({ inputs: [[dice(1, 2, 3), dice(1, 4)]] });
const contrib =
  (make: (dice: Dice) => Case) =>
  (dice: Dice): Case => ({ ...make(dice), domain: 'com.microsoft' });
const several = (dice: Dice): Case => ({ inputs: [[2, 3], [3], [2, 1]].slice(0, dice(1, 2, 3)) });
const rootMeanSquare = (dice: Dice): Case => {
  const axis = dice(-1, 1);
  return { inputs: [[2, 3, 4], axis === 1 ? [3, 4] : [4]], attributes: { axis, epsilon: { float: 0.1 } } };
};
const layer =
  (gates: number, states: number, attributesOf: (dice: Dice) => Attributes = () => ({})) =>
  (dice: Dice): Case => {
    const direction = ['forward', 'reverse', 'bidirectional'][dice(0, 1, 2)]!;
    const directions = direction === 'bidirectional' ? 2 : 1;
    const [steps, batch, width, hidden] = [dice(1, 2, 3), dice(1, 2), dice(1, 2), dice(1, 2)];
    const inputs: Case['inputs'] = [
      [steps, batch, width],
      [directions, gates * hidden, width],
      [directions, gates * hidden, hidden],
      dice(0, 1) === 0 ? '' : [directions, 2 * gates * hidden],
    ];
    if (dice(0, 1) === 1) inputs.push('', ...Array.from({ length: states }, () => [directions, batch, hidden]));
    const outputs = [['y'], ['', 'h'], ['y', 'h', 'c'].slice(0, states + 1)][dice(0, 1, 2)]!;
    return { inputs, outputs, attributes: { hidden_size: hidden, direction, ...attributesOf(dice) } };
  };

/** Random cases per operator; a row of the table without cases fails. */
const cases: Readonly<Record<string, (dice: Dice) => Case>> = {
  Gelu: (dice) => ({ ...unary(dice), attributes: dice(0, 1) === 0 ? {} : { approximate: 'tanh' } }),
  BiasGelu: contrib(() => ({ inputs: [[2, 3], [3]] })),
  FastGelu: contrib((dice) => ({ inputs: dice(0, 1) === 0 ? [[2, 3]] : [[2, 3], [3]] })),
  QuickGelu: contrib(unary),
  Mish: unary,
  Celu: (dice) => ({ ...unary(dice), attributes: { alpha: { float: dice(0.5, 2) } } }),
  ThresholdedRelu: (dice) => ({ ...unary(dice), attributes: { alpha: { float: 0.2 } } }),
  Sum: several,
  Mean: several,
  GlobalMaxPool: (dice) => ({ inputs: [[2, 2, dice(1, 3), 2]], numbers: 'distinct' }),
  LpNormalization: (dice) => ({ inputs: [[2, 3, 2]], attributes: { axis: dice(0, 1, -1), p: dice(1, 2) } }),
  CastLike: () => ({ inputs: [[2, 3], [1]], fixed: [1] }),
  RMSNormalization: rootMeanSquare,
  // Under the standard name of its draft, as optimised language models have it.
  SimplifiedLayerNormalization: (dice) => ({ ...rootMeanSquare(dice), opset: 17 }),
  GroupNormalization: (dice) => {
    const groups = dice(1, 2, 4);
    const opset = dice(18, 21);
    const channels = opset === 18 ? groups : 4;
    return {
      inputs: [[2, 4, dice(2, 3), 2], [channels], [channels]],
      attributes: { num_groups: groups, epsilon: { float: 0.1 } },
      opset,
    };
  },
  LSTM: layer(4, 2),
  GRU: layer(3, 1, (dice) => ({ linear_before_reset: dice(0, 1) })),
  RNN: layer(1, 1),
};

/** The node as a model has it, what it is rewritten to with its gradients, and numbers for its inputs. */
function setUp(operator: string, seed: number) {
  const uniform = generator(seed);
  const example = cases[operator]!((...sides) => sides[Math.floor(uniform() * sides.length)]!);
  const { inputs, outputs = ['y'], attributes = {}, numbers = 'any', fixed = [], domain = '', opset = 23 } = example;
  const graph = new GraphBuilder('test/');
  const given = inputs.map((shape, index) => (shape === '' ? '' : graph.input(`x${index}`, shape)));
  const node: NodeProto = { ...makeNode(operator, given, outputs, attributes, 'layer'), domain };
  const names = given.filter((name) => name !== '');
  writeNode(graph, node);
  const written = [...graph.nodes];
  const ys = outputs.filter((name) => name !== '');
  const seeds = new Map(ys.map((y) => [y, graph.input(`seed-${y}`, graph.shapeOf(y))]));
  const trained = given.filter((name, position) => name !== '' && !fixed.includes(position));
  const found = differentiate(graph, written, seeds, trained);
  const values = [...names, ...seeds.values()].map((name): [string, Float64Array] => [
    name,
    draw(sizeOf(graph.shapeOf(name)), names.includes(name) ? numbers : 'any', uniform),
  ]);
  return { node, graph, names: trained, given: names, ys, seeds, found, feeds: new Map(values), domain, opset };
}

test.each(Object.keys(rewrites))(
  '%s is rewritten to what ONNX Runtime computes, and has its gradient',
  async (operator) => {
    expect(cases[operator], `${operator} has a rewrite and no cases here`).toBeDefined();
    for (let seed = 0; seed < 12; seed++) {
      const made = setUp(operator, seed);
      const { graph, node, given: names, ys, feeds, domain, opset } = made;
      const value = (name: string) => makeValue(name, graph.shapeOf(name));
      const plain = { name: 'one', node: [node], initializer: [], input: names.map(value), output: ys.map(value) };
      const sets = [{ domain: '', version: BigInt(opset) }, ...(domain === '' ? [] : [{ domain, version: 1n }])];
      const opsetImport = sets.map((set) => create(OperatorSetIdProtoSchema, set));
      const session = await ort.InferenceSession.create(writeModel({ ...makeModel(plain), opsetImport }));
      const tensors = names.map((name) => {
        return [name, new ort.Tensor('float32', Float32Array.from(feeds.get(name)!), graph.shapeOf(name))] as const;
      });
      const results = await session.run(Object.fromEntries(tensors));
      const reference = evaluate(graph, feeds);
      for (const y of ys) {
        expect(results[y]!.dims).toEqual(graph.shapeOf(y));
        reference.get(y)!.forEach((one, index) => expect(Number(results[y]!.data[index])).toBeCloseTo(one, 4));
      }
      await session.release();
      expect(worstGap(made)).toBeLessThan(1e-6);
    }
  },
);

test('a batch that comes first is turned', () => {
  const run = (layout: number): Map<string, Float64Array> => {
    const graph = new GraphBuilder('test/');
    const [batch, steps] = [2, 3];
    const names = [layout === 1 ? [batch, steps, 1] : [steps, batch, 1], [1, 8, 1], [1, 8, 2]].map((shape, index) =>
      graph.input(`x${index}`, shape),
    );
    writeNode(graph, makeNode('LSTM', names, ['y', 'h'], { hidden_size: 2, layout }));
    expect([graph.shapeOf('y'), graph.shapeOf('h')]).toEqual([
      layout === 1 ? [2, 3, 1, 2] : [3, 1, 2, 2],
      layout === 1 ? [2, 1, 2] : [1, 2, 2],
    ]);
    // Number s of example b is 10·b + s, however they lie.
    const x = Float64Array.from({ length: 6 }, (_, i) =>
      Math.sin(layout === 1 ? 10 * Math.floor(i / 3) + (i % 3) : 10 * (i % 2) + Math.floor(i / 2)),
    );
    const weights = [8, 16].map((length) => Float64Array.from({ length }, (_, index) => Math.cos(index)));
    return evaluate(graph, new Map([x, ...weights].map((values, index) => [`x${index}`, values])));
  };
  const [late, first] = [run(0), run(1)];
  const at = (batch: number, step: number, unit: number): number[] => [
    late.get('y')![(step * 2 + batch) * 2 + unit]!,
    first.get('y')![(batch * 3 + step) * 2 + unit]!,
  ];
  for (const [batch, step, unit] of [
    [0, 1, 0],
    [1, 0, 1],
    [1, 2, 0],
  ] as const) {
    const [a, b] = at(batch, step, unit);
    expect(a).toBe(b);
  }
  expect(late.get('h')).toEqual(first.get('h'));
});

test.each([
  ['Loop', {}, /Loop of node 'the-node' branches at run time; export the model traced/],
  ['Scan', {}, /Scan of node 'the-node'/],
  ['If', {}, /If of node 'the-node'.*Where/],
  ['LSTM', { clip: { float: 1 } }, /clips its gates/],
])('%s is refused with what mends it', (operator, attributes: Attributes, message) => {
  const graph = new GraphBuilder('test/');
  const names = [
    [2, 3, 1],
    [1, 8, 1],
    [1, 8, 2],
  ].map((shape, index) => graph.input(`x${index}`, shape));
  const write = (): unknown => writeNode(graph, makeNode(operator, names, ['y'], attributes, 'the-node'));
  expect(write).toThrow(NotTrainableError);
  expect(write).toThrow(message);
});

/** Writes a node that a later operator set spells in its own way. */
function respelled(make: (graph: GraphBuilder) => NodeProto): { graph: GraphBuilder; written: NodeProto[] } {
  const graph = new GraphBuilder('test/');
  graph.input('x', [2, 3, 4, 4]);
  writeNode(graph, make(graph));
  return { graph, written: graph.nodes };
}

test('what later operator sets spell differently is written for 17', () => {
  const padded = respelled((graph) => makeNode('Pad', ['x', graph.integers([1, 2]), '', graph.integers([-1])], ['y']));
  expect(padded.graph.shapeOf('y')).toEqual([2, 3, 4, 7]);
  const scales = (graph: GraphBuilder): string => graph.floats(Float32Array.of(2, 3), [2]);
  const resized = respelled((graph) =>
    makeNode('Resize', ['x', '', scales(graph)], ['y'], { axes: [2, 3], antialias: 0 }),
  );
  expect(resized.graph.shapeOf('y')).toEqual([2, 3, 8, 12]);
  expect(resized.written[0]!.attribute).toEqual([]);
  const reduced = respelled((graph) => makeNode('ReduceMax', ['x', graph.integers([1])], ['y'], { keepdims: 0 }));
  expect(reduced.graph.shapeOf('y')).toEqual([2, 4, 4]);
  expect(reduced.written[0]!.input).toEqual(['x']);
  const names = ({ written }: { written: NodeProto[] }): string[] => written[0]!.attribute.map(({ name }) => name);
  const ofAll = respelled(() => makeNode('ReduceMean', ['x'], ['y'], { noop_with_empty_axes: 0, keepdims: 1 }));
  expect([ofAll.graph.shapeOf('y'), names(ofAll)]).toEqual([[1, 1, 1, 1], ['keepdims']]);
  const ofNone = respelled(() => makeNode('ReduceMean', ['x'], ['y'], { noop_with_empty_axes: 1 }));
  expect([ofNone.graph.shapeOf('y'), ofNone.written[0]!.opType]).toEqual([[2, 3, 4, 4], 'Identity']);
  expect(names(respelled(() => makeNode('Cast', ['x'], ['y'], { to: 1, saturate: 1 })))).toEqual(['to']);
});

test('a Constant is read in each way it may be written', () => {
  const graph = new GraphBuilder('test/');
  const write = (attributes: Attributes, output: string): unknown =>
    writeNode(graph, makeNode('Constant', [], [output], attributes));
  write({ value_float: { float: 0.5 } }, 'half');
  write({ value_ints: [3, 4] }, 'sizes');
  write({ value_int: 7 }, 'seven');
  expect(graph.constantFloats('half')).toEqual([0.5]);
  expect([graph.constantIntegers('sizes'), graph.constantIntegers('seven')]).toEqual([[3, 4], [7]]);
  expect(graph.initializers).toEqual([
    floatTensor('half', [], Float32Array.of(0.5)),
    int64Tensor('sizes', [3, 4]),
    int64Tensor('seven', [7], []),
  ]);
});

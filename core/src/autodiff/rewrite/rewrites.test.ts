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
  /** Inputs of other types: truths, of which each row has one, or places below a bound. */
  types?: Readonly<Record<number, 'bool' | 'int32' | { below: number }>>;
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

/** The operator of ONNX 23: heads apart or not, fewer of keys, a mask of truths or of numbers, softcap. */
const attending = (dice: Dice): Case => {
  const [batch, queries, keys, width, outer] = [dice(1, 2), dice(1, 3), dice(1, 3), dice(1, 2), dice(1, 2)];
  const own = dice(1, 2);
  const heads = own * dice(1, 2);
  const isFlat = dice(0, 1) === 1;
  const shape = (count: number, length: number, each: number): number[] =>
    isFlat ? [batch, length, count * each] : [batch, count, length, each];
  const inputs: Case['inputs'] = [shape(heads, queries, width), shape(own, keys, width), shape(own, keys, outer)];
  const mask = dice(0, 1, 2);
  if (mask > 0) inputs.push([queries, keys]);
  return {
    inputs,
    ...(mask === 1 ? { types: { 3: 'bool' } as const } : {}),
    attributes: {
      ...(isFlat ? { q_num_heads: heads, kv_num_heads: own } : {}),
      ...(dice(0, 1) === 1 ? { scale: { float: 0.7 } } : {}),
      // A mask of truths may leave a row that sees nothing together with this one.
      is_causal: mask === 1 ? 0 : dice(0, 1),
      ...(dice(0, 1) === 1 ? { softcap: { float: 2 } } : {}),
    },
  };
};

/** The operator of ONNX Runtime's optimizer. */
const packed = (dice: Dice): Case => {
  const [batch, length, width, heads, each] = [dice(1, 2), dice(2, 3), dice(2, 3), dice(1, 2), dice(1, 2)];
  const inputs: Case['inputs'] = [[batch, length, width], [width, 3 * heads * each], [3 * heads * each]];
  if (dice(0, 1) === 1) inputs.push([batch, length]);
  const attributes = { num_heads: heads, unidirectional: inputs.length === 4 ? 0 : dice(0, 1) };
  return { inputs, types: { 3: 'int32' }, attributes, domain: 'com.microsoft' };
};

const elementTypes = { bool: 9, int32: 6, int64: 7 } as const;

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
  Swish: (dice) => ({ ...unary(dice), attributes: { alpha: { float: dice(0.5, 2) } }, opset: 24 }),
  DepthToSpace: (dice) => ({
    inputs: [[2, 8, dice(1, 2), 3]],
    attributes: { blocksize: 2, mode: dice(0, 1) === 0 ? 'DCR' : 'CRD' },
  }),
  SpaceToDepth: (dice) => ({ inputs: [[2, dice(1, 2), 4, 6]], attributes: { blocksize: 2 } }),
  SkipLayerNormalization: contrib((dice) => ({
    inputs: [[2, 3, 4], [2, 3, 4], [4], [4], ...(dice(0, 1) === 0 ? [] : [[4]])],
    attributes: { epsilon: { float: 0.1 } },
    outputs: dice(0, 1) === 0 ? ['y'] : ['y', '', '', 'sum'],
  })),
  SkipSimplifiedLayerNormalization: contrib((dice) => ({
    inputs: [[2, 3, 4], [2, 3, 4], [4], ...(dice(0, 1) === 0 ? [] : [[4]])],
    attributes: { epsilon: { float: 0.1 } },
  })),
  Attention: (dice) => (dice(0, 1, 2) === 0 ? packed(dice) : attending(dice)),
  MultiHeadAttention: contrib((dice) => {
    const [batch, queries, keys, heads, width] = [dice(1, 2), dice(1, 3), dice(2, 3), dice(1, 2), dice(1, 2)];
    const [inner, outer] = [heads * width, heads * dice(1, 3)];
    const inputs: Case['inputs'] = [
      [batch, queries, inner],
      [batch, keys, inner],
      [batch, keys, outer],
    ];
    const [hasBias, isMasked, isAdded] = [dice(0, 1), dice(0, 1), dice(0, 1)];
    if (hasBias + isMasked + isAdded > 0) inputs.push(hasBias === 1 ? [2 * inner + outer] : '');
    if (isMasked + isAdded > 0) inputs.push(isMasked === 1 ? [batch, keys] : '');
    if (isAdded === 1) inputs.push([batch, heads, queries, keys]);
    return { inputs, types: { 4: 'int32' }, attributes: { num_heads: heads, scale: { float: dice(0.3, 1) } } };
  }),
  RotaryEmbedding: (dice) => {
    const [batch, heads, length, width] = [2, dice(1, 2), 3, dice(2, 4)];
    const isFlat = dice(0, 1) === 1;
    const turned = width === 4 ? dice(0, 2) : 0;
    const half = (turned === 0 ? width : turned) / 2;
    const attributes = { num_heads: heads, interleaved: dice(0, 1), rotary_embedding_dim: turned };
    const x = isFlat ? [batch, length, heads * width] : [batch, heads, length, width];
    const cache = [5, half];
    if (dice(0, 1) === 0) return { inputs: [x, [batch, length, half], [batch, length, half]], attributes };
    // ONNX Runtime's own has the positions second.
    if (turned === 0 && dice(0, 1) === 0) {
      return {
        inputs: [x, [batch, length], cache, cache],
        types: { 1: { below: 5 } },
        attributes: { interleaved: attributes.interleaved, num_heads: heads },
        domain: 'com.microsoft',
        fixed: [2, 3],
      };
    }
    return { inputs: [x, cache, cache, [batch, length]], types: { 3: { below: 5 } }, attributes };
  },
  LSTM: layer(4, 2),
  GRU: layer(3, 1, (dice) => ({ linear_before_reset: dice(0, 1) })),
  RNN: layer(1, 1),
};

/** The node as a model has it, what it is rewritten to with its gradients, and numbers for its inputs. */
function setUp(operator: string, seed: number) {
  const uniform = generator(seed);
  const example = cases[operator]!((...sides) => sides[Math.floor(uniform() * sides.length)]!);
  const { inputs, outputs = ['y'], attributes = {}, numbers = 'any', domain = '', opset = 23, types = {} } = example;
  const fixed = [...(example.fixed ?? []), ...Object.keys(types).map(Number)];
  const typeOf = (index: number): 'bool' | 'int32' | 'int64' | undefined => {
    const type = types[index];
    return typeof type === 'object' ? 'int64' : type;
  };
  const graph = new GraphBuilder('test/');
  const given = inputs.map((shape, index) =>
    shape === '' ? '' : graph.input(`x${index}`, shape, elementTypes[typeOf(index)!] ?? 1),
  );
  const node: NodeProto = { ...makeNode(operator, given, outputs, attributes, 'layer'), domain };
  const names = given.filter((name) => name !== '');
  writeNode(graph, node);
  const written = [...graph.nodes];
  const ys = outputs.filter((name) => name !== '');
  const seeds = new Map(ys.map((y) => [y, graph.input(`seed-${y}`, graph.shapeOf(y))]));
  const trained = given.filter((name, position) => name !== '' && !fixed.includes(position));
  const found = differentiate(graph, written, seeds, trained);
  function numbersOf(name: string): Float64Array {
    const length = sizeOf(graph.shapeOf(name));
    const type = types[given.indexOf(name)];
    if (typeof type === 'object') return Float64Array.from({ length }, () => Math.floor(uniform() * type.below));
    const width = graph.shapeOf(name).at(-1) ?? 1;
    if (type !== undefined)
      return Float64Array.from({ length }, (_, index) => Number(index % width === 0 || uniform() < 0.5));
    return draw(length, names.includes(name) ? numbers : 'any', uniform);
  }
  const values = [...names, ...seeds.values()].map((name): [string, Float64Array] => [name, numbersOf(name)]);
  return {
    types: new Map(given.map((name, index) => [name, typeOf(index)])),
    node,
    graph,
    names: trained,
    given: names,
    ys,
    seeds,
    found,
    feeds: new Map(values),
    domain,
    opset,
  };
}

function tensorOf(
  type: 'bool' | 'int32' | 'int64' | undefined,
  values: Float64Array,
  shape: readonly number[],
): ort.Tensor {
  if (type === 'bool') return new ort.Tensor('bool', Uint8Array.from(values), shape);
  if (type === 'int32') return new ort.Tensor('int32', Int32Array.from(values), shape);
  if (type === 'int64') return new ort.Tensor('int64', BigInt64Array.from(values, BigInt), shape);
  return new ort.Tensor('float32', Float32Array.from(values), shape);
}

test.each(Object.keys(rewrites))(
  '%s is rewritten to what ONNX Runtime computes, and has its gradient',
  async (operator) => {
    expect(cases[operator], `${operator} has a rewrite and no cases here`).toBeDefined();
    for (let seed = 0; seed < 12; seed++) {
      const made = setUp(operator, seed);
      const { graph, node, ys, feeds, domain, opset, types } = made;
      const names = made.given.filter((name) => name !== '');
      const value = (name: string) => makeValue(name, graph.shapeOf(name), elementTypes[types.get(name)!] ?? 1);
      const plain = { name: 'one', node: [node], initializer: [], input: names.map(value), output: ys.map(value) };
      const sets = [{ domain: '', version: BigInt(opset) }, ...(domain === '' ? [] : [{ domain, version: 1n }])];
      const opsetImport = sets.map((set) => create(OperatorSetIdProtoSchema, set));
      const session = await ort.InferenceSession.create(writeModel({ ...makeModel(plain), opsetImport }));
      const tensors = names.map((name) => {
        return [name, tensorOf(types.get(name), feeds.get(name)!, graph.shapeOf(name))] as const;
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

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { evaluate } from '../../../test/reference/evaluate.ts';
import { transformer } from '../../../test/support/transformer.ts';
import { writeNode } from '../autodiff/rewrite/write-node.ts';
import { cnn } from '../models/cnn.ts';
import { mlp } from '../models/mlp.ts';
import { contractOf } from '../onnx/contract.ts';
import { graphOf, readModel, writeModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import { makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { splitModel } from '../onnx/parameters.ts';
import { dimsOf, floatTensor, floatValues, int64Tensor } from '../onnx/tensor-data.ts';
import { toInference } from '../onnx/training-mode.ts';
import { labelOf } from '../quantize/graph-view.ts';
import { seeded } from '../random/stream.ts';
import type { RandomStream } from '../random/stream.ts';
import { sizeOf } from '../tensor/shape.ts';
import { buildTrainingGraph } from '../training/training-graph.ts';
import type { Slice } from './channels.ts';
import { costOf } from './cost.ts';
import { ChannelTaker, followChannels, groupsOf, pruneChannels, withoutGone } from './prune-channels.ts';
import type { Followed } from './prune-channels.ts';

/** Models as PyTorch exports them. */
const exported = (name: string): ModelProto => {
  const file = join(import.meta.dirname, '../../../test/reference/gradients', `${name}.json`);
  const { model } = JSON.parse(readFileSync(file, 'utf8')) as { model: string };
  return readModel(Buffer.from(model, 'base64'));
};

const random = (seed: number): ((name: string, shape: number[]) => TensorProto) => {
  const stream = seeded(seed);
  return (name, shape) =>
    floatTensor(
      name,
      shape,
      Float32Array.from({ length: sizeOf(shape) }, () => stream.normal() / 2),
    );
};

const conv = (name: string, x: string, attributes = {}): NodeProto =>
  makeNode('Conv', [x, `${name}.w`, `${name}.b`], [name], { kernel_shape: [3, 3], pads: [1, 1, 1, 1], ...attributes });

/** Groups of three channels, squeeze and excitation, a concatenation, and a flattening that names its size. */
function branched(): ModelProto {
  const floats = random(4);
  const weights = (name: string, shape: number[]): TensorProto[] => [
    floats(`${name}.w`, shape),
    floats(`${name}.b`, [shape[0]!]),
  ];
  return makeModel({
    name: 'branched',
    node: [
      conv('first', 'x'),
      makeNode('Relu', ['first'], ['active']),
      conv('grouped', 'active', { group: 2 }),
      makeNode('GlobalAveragePool', ['grouped'], ['squeezed']),
      conv('excited', 'squeezed', { kernel_shape: [1, 1], pads: [0, 0, 0, 0] }),
      makeNode('Sigmoid', ['excited'], ['gate']),
      makeNode('Mul', ['grouped', 'gate'], ['gated']),
      conv('side', 'active'),
      makeNode('PRelu', ['side', 'slope'], ['bent']),
      makeNode('Concat', ['gated', 'bent'], ['joined'], { axis: 1 }),
      conv('deep', 'joined', { group: 10 }),
      makeNode('MaxPool', ['deep'], ['pooled'], { kernel_shape: [2, 2], strides: [2, 2] }),
      makeNode('Reshape', ['pooled', 'flat'], ['row']),
      makeNode('Gemm', ['row', 'head.w', 'head.b'], ['y'], { transB: 1 }),
    ],
    initializer: [
      ...weights('first', [6, 2, 3, 3]),
      ...weights('grouped', [6, 3, 3, 3]),
      ...weights('excited', [6, 6, 1, 1]),
      ...weights('side', [4, 6, 3, 3]),
      floats('slope', [4, 1, 1]),
      ...weights('deep', [10, 1, 3, 3]),
      ...weights('head', [3, 40]),
      int64Tensor('flat', [-1, 40]),
    ],
    input: [makeValue('x', ['batch', 2, 4, 4])],
    output: [makeValue('y', ['batch', 3])],
  });
}

const models: Record<string, () => ModelProto> = {
  MLP: () => mlp({ inputs: 5, hidden: [8, 6], outputs: 3, seed: 1 }),
  CNN: () => cnn({ height: 8, width: 8, channels: 1, filters: [4, 6], dense: 10, outputs: 3, seed: 1 }),
  'branches, groups and gates': branched,
  'MLP of PyTorch': () => exported('mlp'),
  LeNet: () => exported('lenet'),
  ResNet: () => exported('resnet'),
  'ResNet-18': () => exported('resnet18'),
  MobileNet: () => exported('mobilenet'),
  MobileNetV2: () => exported('mobilenetv2'),
  'transformer encoder': () => exported('encoder'),
  'transformer with named sizes': () =>
    transformer({ tokens: 4, tokenSize: 3, width: 8, heads: 2, layers: 2, seed: 1 }),
  GPT: () => exported('gpt'),
};

/** Outputs on made-up inputs, in float64 by the reference. */
function answers(model: ModelProto): Float64Array[] {
  const builder = new GraphBuilder('again/');
  const stream = seeded('inputs');
  const graph = toInference(graphOf(model));
  for (const tensor of graph.initializer) builder.initializer(tensor);
  const feeds = new Map<string, Float64Array>();
  for (const { name, dtype, dims } of contractOf(model).inputs) {
    const shape = dims.map((size) => (size < 0 ? 2 : size));
    builder.input(name, shape, dtype === 'int64' ? TensorProto_DataType.INT64 : TensorProto_DataType.FLOAT);
    const draw = (): number => (dtype === 'int64' ? stream.integer(3) : stream.normal());
    feeds.set(name, Float64Array.from({ length: sizeOf(shape) }, draw));
  }
  for (const node of graph.node) writeNode(builder, { ...node });
  // Sizes are known before anything runs, and the reference computes none.
  for (const node of builder.nodes.splice(0)) {
    const integers = builder.constantIntegers(node.output[0]!);
    if (integers === undefined) builder.nodes.push(node);
    else feeds.set(node.output[0]!, Float64Array.from(integers));
  }
  const values = evaluate(builder, feeds);
  return graph.output.map(({ name }) => values.get(name)!);
}

/** The model as it is, but for weights of zero wherever a layer reads channels that are gone. */
function withZeros({ model, follower }: Followed, gone: ReadonlySet<number>): ModelProto {
  const made = new Set(follower.makers.map(({ tensor, axis }) => `${tensor.name} ${axis}`));
  const weights = new Set(follower.makers.map(({ tensor }) => tensor.name));
  const graph = graphOf(model);
  const initializer = graph.initializer.map((tensor) => {
    const read = (follower.slices.get(tensor.name) ?? []).filter(({ axis }) => !made.has(`${tensor.name} ${axis}`));
    return weights.has(tensor.name) ? read.reduce((rest, slice) => zeroed(rest, slice), tensor) : tensor;
  });
  return { ...model, graph: { ...graph, initializer } };

  function zeroed(tensor: TensorProto, { axis, channels }: Slice): TensorProto {
    const shape = dimsOf(tensor);
    const inner = sizeOf(shape.slice(axis + 1));
    const values = floatValues(tensor).map((value, index) => {
      const place = Math.floor(index / inner) % channels.length;
      return gone.has(follower.sets.find(channels[place]!)) ? 0 : value;
    });
    return floatTensor(tensor.name, shape, values);
  }
}

/** Any of the channels that may go, but never all of a layer. */
function chosen({ follower }: Followed, stream: RandomStream): Set<number> {
  const taker = new ChannelTaker(follower);
  for (const { channels } of groupsOf(follower)) {
    const movable = stream.shuffle(channels.filter((channel) => follower.sets.obstacle(channel) === undefined));
    for (const channel of movable.slice(0, stream.integer(movable.length + 1))) taker.take(channel);
  }
  return taker.gone;
}

test.each(Object.entries(models))('%s: without channels it answers as with weights of zero for them', (_, make) => {
  const model = make();
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1e9 }), (seed) => {
      const followed = followChannels(model, []);
      const gone = chosen(followed, seeded(seed));
      const [expected, found] = [answers(withZeros(followed, gone)), answers(withoutGone(followed, gone))];
      expected.forEach((values, output) => {
        const scale = Math.max(1, ...values.map(Math.abs));
        expect(found[output]).toHaveLength(values.length);
        values.forEach((value, at) => expect(Math.abs(value - found[output]![at]!)).toBeLessThan(1e-10 * scale));
      });
    }),
    { numRuns: 6 },
  );
});

test.each(Object.entries(models))(
  '%s: half of its channels make it smaller, and it runs and can be trained on',
  async (_, make) => {
    const model = make();
    const { model: pruned, groups } = pruneChannels(model, { sparsity: 0.5 });
    const [before, after] = [costOf(model), costOf(pruned)];
    expect(after.parameters).toBeLessThan(before.parameters);
    expect(after.operations!).toBeLessThan(before.operations!);
    for (const group of groups) expect(group.after).toBe(group.before - Math.floor(group.before / 2));
    expect(contractOf(pruned)).toEqual(contractOf(model));
    const session = await ort.InferenceSession.create(writeModel(pruned), { logSeverityLevel: 3 });
    await session.release();
    const split = readModel(splitModel(pruned).graph);
    if (contractOf(model).inputs[0]!.dims.slice(1).includes(-1)) return;
    const plan = {
      loss: 'cross-entropy',
      optimizer: { name: 'sgd', learningRate: 0.1 },
      epochs: 1,
      batchSize: 4,
    } as const;
    expect(buildTrainingGraph(split, plan).parameters.length).toBeGreaterThan(0);
  },
);

test('the weakest channels go: those whose weights are smallest, as a norm behind them scales them', () => {
  const layers = (gains: number[]): ModelProto =>
    makeModel({
      name: 'three',
      node: [
        makeNode('Conv', ['x', 'w'], ['c'], { kernel_shape: [1] }, 'conv'),
        makeNode('BatchNormalization', ['c', 'gain', 'shift', 'mean', 'variance'], ['n'], {}, 'norm'),
        makeNode('Conv', ['n', 'v'], ['y'], { kernel_shape: [1] }, 'last'),
      ],
      initializer: [
        floatTensor('w', [3, 1, 1], Float32Array.of(3, -1, 2)),
        floatTensor('gain', [3], Float32Array.from(gains)),
        floatTensor('shift', [3], new Float32Array(3)),
        floatTensor('mean', [3], new Float32Array(3)),
        floatTensor('variance', [3], new Float32Array(3).fill(1)),
        floatTensor('v', [1, 3, 1], Float32Array.of(10, 20, 30)),
      ],
      input: [makeValue('x', ['batch', 1, 5])],
      output: [makeValue('y', ['batch', 1, 5])],
    });
  const left = (gains: number[]): number[] => {
    const { model } = pruneChannels(layers(gains), { sparsity: 0.4 });
    return [...floatValues(graphOf(model).initializer.find(({ name }) => name === 'v')!)];
  };
  expect(left([1, 1, 1])).toEqual([10, 30]);
  expect(left([1, 9, 1])).toEqual([10, 20]);
});

test('a residual sum keeps the same channels on both sides, and the residual stream of a transformer keeps all', () => {
  const { groups } = pruneChannels(exported('resnet'), { sparsity: 0.5 });
  expect(groups.some(({ nodes }) => nodes.length > 1)).toBe(true);
  const small = transformer({ tokens: 4, tokenSize: 3, width: 8, heads: 2, layers: 1, seed: 1 });
  const { groups: widened, kept } = pruneChannels(small, { sparsity: 0.25 });
  expect(widened).toEqual([{ nodes: ['layer0.up.product'], before: 32, after: 24 }]);
  const reasons = Object.fromEntries(kept.map(({ node, reason }) => [node, reason]));
  expect(reasons['layer0.q.product']).toBe(
    "keeps its channels: 'layer0.q.split' (Reshape) splits the channels, or lays them out anew",
  );
  expect(reasons['layer0.down.product']).toMatch(/\(LayerNormalization\) normalises over the channels/);
});

test('layers that are excluded keep their channels', () => {
  const { groups, kept } = pruneChannels(models['CNN']!(), { sparsity: 0.5, exclude: ['conv*'] });
  expect(groups.map(({ nodes }) => nodes)).toEqual([['hidden']]);
  expect(kept.map(({ node, reason }) => [node, reason])).toEqual([
    ['conv1', 'is excluded'],
    ['conv2', 'is excluded'],
    ['output', 'makes an output of the model'],
  ]);
});

test('what cannot be followed is refused with the name of the node', () => {
  const floats = random(2);
  const through = (node: NodeProto): ModelProto =>
    makeModel({
      name: 'stuck',
      node: [
        makeNode('MatMul', ['x', 'w'], ['h'], {}, 'first'),
        node,
        makeNode('MatMul', ['z', 'v'], ['y'], {}, 'last'),
      ],
      initializer: [
        floats('w', [3, 4]),
        floats('v', [4, 2]),
        int64Tensor('order', [2, 0, 1, 3]),
        int64Tensor('axis', [1], []),
      ],
      input: [makeValue('x', ['batch', 3])],
      output: [makeValue('y', ['batch', 2])],
    });
  const prune = (model: ModelProto) => () => pruneChannels(model, { sparsity: 0.5 });
  expect(prune(through(makeNode('Gather', ['h', 'order'], ['z'], { axis: 1 }, 'shuffle')))).toThrow(
    "no channel can go: 'first' (MatMul) keeps its channels: 'shuffle' (Gather) picks channels; 'last' (MatMul) makes an output of the model",
  );
  expect(prune(through(makeNode('CumSum', ['h', 'axis'], ['z'], {}, 'sums')))).toThrow(
    "'sums' (CumSum) is an operator that channels are not followed through",
  );
  expect(prune(through(makeNode('Softmax', ['h'], ['z'], {}, 'shares')))).toThrow(
    "'shares' (Softmax) shares out over the channels",
  );
  // Norms over groups of channels are exported as a Reshape around an InstanceNormalization.
  expect(prune(exported('generator'))).toThrow(
    /'\/body\/body.0\/Conv' \(Conv\) keeps its channels: '\/body\/body.1\/Reshape'/,
  );
  expect(prune(mlp({ inputs: 4, hidden: [], outputs: 2, seed: 1 }))).toThrow('no channel can go');
  expect(() => pruneChannels(mlp({ inputs: 4, hidden: [3], outputs: 2, seed: 1 }), { sparsity: 0.1 })).toThrow(
    'so small a share takes no channel away; give a larger one',
  );
  expect(() => pruneChannels(mlp({ inputs: 4, hidden: [3], outputs: 2, seed: 1 }), { sparsity: 1 })).toThrow(
    'sparsity must be from 0 to below 1',
  );
  expect(labelOf(graphOf(branched()).node[0]!)).toBe('first');
});

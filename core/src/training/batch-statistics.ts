import { compositeDomain } from '../autodiff/composites.ts';
import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { floatAttribute, makeNode } from '../onnx/nodes.ts';

/** Which examples of a batch are real; what fills a last batch up has no part in its statistics. */
export interface RealExamples {
  /** Of each example its share in a mean, [1, batch]. */
  shares: string;
  /** 1, or 0 where the batch is all filling. */
  any: string;
}

export function realExamples(graph: GraphBuilder, sampleWeights: string): RealExamples {
  const [batch] = graph.shapeOf(sampleWeights) as [number];
  const isReal = graph.emit('Greater', [sampleWeights, graph.scalar(0)]);
  const marks = graph.emit('Cast', [isReal], { to: TensorProto_DataType.FLOAT });
  const count = graph.emit('ReduceSum', [marks], { keepdims: 0 });
  const shares = graph.emit('Div', [marks, graph.emit('Max', [count, graph.scalar(1)])]);
  return {
    shares: graph.emit('Reshape', [shares, graph.integers([1, batch])]),
    any: graph.emit('Min', [count, graph.scalar(1)]),
  };
}

/** Running statistics, and what they are after the step. */
export type NextStatistics = ReadonlyMap<string, string>;

/**
 * Ioffe and Szegedy 2015 in training: normalises by mean and variance of the batch, and moves the running ones towards them as ONNX
 * says (`momentum` is the share that stays, the variance is that of the population). Answers the moved statistics by parameter, and the
 * one node that all this is to whoever differentiates it.
 */
export function writeBatchNormalization(
  graph: GraphBuilder,
  node: NodeProto,
  running: { mean: string; variance: string },
  { shares, any }: RealExamples,
): { statistics: NextStatistics; whole: NodeProto } {
  const [x, scale, bias] = node.input as [string, string, string];
  const shape = graph.shapeOf(x);
  const channels = shape[1]!;
  const spatial = shape.flatMap((_, axis) => (axis < 2 ? [] : [axis]));
  const along = (value: string): string =>
    graph.emit('Reshape', [value, graph.integers([channels, ...spatial.map(() => 1)])]);
  const meanOf = (value: string): string => {
    const perExample = spatial.length === 0 ? value : graph.emit('ReduceMean', [value], { axes: spatial, keepdims: 0 });
    return graph.emit('Reshape', [graph.emit('MatMul', [shares, perExample]), graph.integers([channels])]);
  };
  const mean = meanOf(x);
  const centred = graph.emit('Sub', [x, along(mean)]);
  const variance = meanOf(graph.emit('Mul', [centred, centred]));
  const epsilon = graph.scalar(floatAttribute(node, 'epsilon', 1e-5));
  const inverse = graph.emit('Reciprocal', [graph.emit('Sqrt', [graph.emit('Add', [variance, epsilon])])]);
  const factor = along(graph.emit('Mul', [scale, inverse]));
  graph.emit('Add', [graph.emit('Mul', [centred, factor]), along(bias)], {}, node.output[0]);
  const pace = graph.emit('Mul', [any, graph.scalar(1 - floatAttribute(node, 'momentum', 0.9))]);
  const moved = (from: string, to: string): string =>
    graph.emit('Add', [from, graph.emit('Mul', [graph.emit('Sub', [to, from]), pace])]);
  const statistics = new Map([
    [running.mean, moved(running.mean, mean)],
    [running.variance, moved(running.variance, variance)],
  ]);
  const whole = makeNode(
    'BatchNormalization',
    [x, scale, bias, centred, inverse, shares],
    [node.output[0]!],
    {},
    node.name,
  );
  whole.domain = compositeDomain;
  return { statistics, whole };
}

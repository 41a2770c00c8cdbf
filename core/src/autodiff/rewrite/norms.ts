import { floatAttribute, intAttribute, makeNode } from '../../onnx/nodes.ts';
import { sizeOf, wrapAxis } from '../../tensor/shape.ts';
import type { GraphBuilder } from '../../onnx/graph-builder.ts';
import { reshapeTo } from '../rule.ts';
import type { Rewrite, RewriteTable } from './rewrite.ts';

// Zhang and Sennrich 2019: divides by the root of the mean square.
const rootMeanSquare: Rewrite = (graph, node) => {
  const [x, scale] = node.input;
  const rank = graph.shapeOf(x!).length;
  const first = wrapAxis(intAttribute(node, 'axis', -1), rank);
  const axes = Array.from({ length: rank - first }, (_, index) => first + index);
  const square = graph.emit('ReduceMean', [graph.emit('Mul', [x!, x!])], { axes, keepdims: 1 });
  const spread = graph.emit('Sqrt', [graph.emit('Add', [square, graph.scalar(floatAttribute(node, 'epsilon', 1e-5))])]);
  graph.emit('Mul', [graph.emit('Div', [x!, spread]), scale!], {}, node.output[0]);
};

/** A sum, and the norm of it, as ONNX Runtime's optimizer writes both in one. */
const skipping =
  (isSimple: boolean): Rewrite =>
  (graph, node) => {
    const [x, skip, scale, ...rest] = node.input as [string, string, string, ...string[]];
    const [shift = '', bias = ''] = isSimple ? ['', rest[0]] : rest;
    const both = graph.emit('Add', [x, skip]);
    const sum = graph.emit(
      bias === '' ? 'Identity' : 'Add',
      bias === '' ? [both] : [both, bias],
      {},
      node.output[3] || undefined,
    );
    const epsilon = { float: floatAttribute(node, 'epsilon', isSimple ? 1e-6 : 1e-12) };
    if (isSimple)
      return rootMeanSquare(graph, makeNode('RMSNormalization', [sum, scale], [node.output[0]!], { epsilon }));
    graph.emit(
      'LayerNormalization',
      [sum, scale, ...(shift === '' ? [] : [shift])],
      { epsilon, axis: -1 },
      node.output[0],
    );
  };

/** Normalisations by the ones that have gradients. */
export const norms: RewriteTable = {
  SkipLayerNormalization: skipping(false),
  SkipSimplifiedLayerNormalization: skipping(true),
  RMSNormalization: rootMeanSquare,
  SimplifiedLayerNormalization: rootMeanSquare,
  // Wu and He 2018: a group of channels is one long channel.
  GroupNormalization: (graph, node) => {
    const [x, scale, bias] = node.input as [string, string, string];
    const shape = graph.shapeOf(x);
    const groups = intAttribute(node, 'num_groups', 1);
    const grouped = reshapeTo(graph, x, [shape[0]!, groups, sizeOf(shape.slice(1)) / groups]);
    const [ones, none] = [1, 0].map((value) => graph.floats(new Float32Array(groups).fill(value), [groups]));
    const epsilon = { float: floatAttribute(node, 'epsilon', 1e-5) };
    const normal = reshapeTo(graph, graph.emit('InstanceNormalization', [grouped, ones!, none!], { epsilon }), shape);
    const perChannel = (value: string): string => alongChannels(graph, value, shape);
    graph.emit('Add', [graph.emit('Mul', [normal, perChannel(scale)]), perChannel(bias)], {}, node.output[0]);
  },
};

/** Of one number a channel, or before operator set 21 one a group. */
function alongChannels(graph: GraphBuilder, value: string, shape: readonly number[]): string {
  const channels = shape[1]!;
  const [given = 1] = graph.shapeOf(value);
  const each = channels / given;
  const column = reshapeTo(graph, value, [given, 1]);
  const spread = each === 1 ? column : graph.emit('Expand', [column, graph.integers([given, each])]);
  return reshapeTo(graph, spread, [channels, ...shape.slice(2).map(() => 1)]);
}

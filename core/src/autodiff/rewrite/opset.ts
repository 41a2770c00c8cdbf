import type { NodeProto } from '../../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../../onnx/graph-builder.ts';
import { findAttribute, intAttribute, intsAttribute, makeNode } from '../../onnx/nodes.ts';
import { hasInput, requiredIntegers } from '../../onnx/shape-rule.ts';
import { wrapAxis } from '../../tensor/shape.ts';

/** A copy of a model's node in the words of operator set 17, which a training graph is written in; later sets spell a few otherwise. */
export function inOpset17(graph: GraphBuilder, node: NodeProto): NodeProto {
  const copy: NodeProto = { ...node, input: [...node.input], output: [...node.output], attribute: [...node.attribute] };
  // At inference a Dropout passes its input on.
  if (node.opType === 'Dropout') {
    return { ...copy, opType: 'Identity', input: [node.input[0]!], output: [node.output[0]!], attribute: [] };
  }
  // From 18 on the pieces of a Split are counted by an attribute; before, by its outputs.
  if (node.opType === 'Split') return without(copy, 'num_outputs');
  if (node.opType === 'Pad' && hasInput(node, 3)) return padOfAllAxes(graph, copy);
  if (node.opType === 'Resize') return resizeOfAllAxes(graph, copy);
  if (node.opType === 'Cast') return without(copy, 'saturate');
  return node.opType.startsWith('Reduce') && node.opType !== 'ReduceSum' ? reduction(graph, copy) : copy;
}

/** From 18 on the axes of a reduction are an input, and an attribute says what it means that there are none. */
function reduction(graph: GraphBuilder, node: NodeProto): NodeProto {
  const keepsAll = intAttribute(node, 'noop_with_empty_axes', 0) === 1;
  const plain = without(node, 'noop_with_empty_axes');
  const axes = hasInput(node, 1) ? requiredIntegers(graph.site(node), 1) : [];
  if (axes.length > 0) {
    const respelled = makeNode(node.opType, [node.input[0]!], node.output, { axes: [...axes] }, node.name);
    return { ...respelled, attribute: [...respelled.attribute, ...plain.attribute] };
  }
  if (keepsAll && intsAttribute(node, 'axes') === undefined) {
    return makeNode('Identity', [node.input[0]!], node.output, {}, node.name);
  }
  return { ...plain, input: [node.input[0]!] };
}

/** The node without attributes that a later operator set gave it. */
function without(node: NodeProto, ...names: readonly string[]): NodeProto {
  return { ...node, attribute: node.attribute.filter(({ name }) => !names.includes(name)) };
}

/** From 18 on a Pad may name the axes that it pads. */
function padOfAllAxes(graph: GraphBuilder, node: NodeProto): NodeProto {
  const site = graph.site(node);
  const rank = site.inputs[0]!.shape.length;
  const [pads, axes] = [requiredIntegers(site, 1), requiredIntegers(site, 3)];
  const all = new Array<number>(2 * rank).fill(0);
  axes.forEach((given, index) => {
    const axis = wrapAxis(given, rank);
    all[axis] = pads[index]!;
    all[axis + rank] = pads[index + axes.length]!;
  });
  const [data, , value = ''] = node.input;
  return { ...node, input: [data!, graph.integers(all), ...(value === '' ? [] : [value])] };
}

/** From 18 on a Resize may name the axes that it resizes, and says what it did as an attribute when it does nothing of the kind. */
function resizeOfAllAxes(graph: GraphBuilder, node: NodeProto): NodeProto {
  const axes = intsAttribute(node, 'axes');
  const plain = { ...node, attribute: node.attribute.filter((attribute) => !isIdle(attribute)) };
  if (axes === undefined) return plain;
  const site = graph.site(node);
  const { shape } = site.inputs[0]!;
  const spread = (given: readonly number[], all: readonly number[]): number[] =>
    axes.reduce((list, axis, index) => list.with(wrapAxis(axis, shape.length), given[index]!), [...all]);
  const scales = site.floats(2);
  const input = hasInput(node, 3)
    ? [node.input[0]!, '', '', graph.integers(spread(requiredIntegers(site, 3), shape))]
    : [
        node.input[0]!,
        '',
        graph.floats(
          Float32Array.from(
            spread(
              scales ?? [],
              shape.map(() => 1),
            ),
          ),
          [shape.length],
        ),
      ];
  return without({ ...plain, input }, 'axes');
}

/** An attribute of operator set 18 that asks for what 17 does anyway. */
function isIdle({ name, i, s }: NodeProto['attribute'][number]): boolean {
  if (name === 'antialias') return i === 0n;
  return name === 'keep_aspect_ratio_policy' && String.fromCharCode(...s) === 'stretch';
}

/** Numbers of a Constant node, which may be written in six ways. */
export function constantOf(
  node: NodeProto,
): { floats: number[]; shape: number[] } | { integers: number[]; shape: number[] } | undefined {
  const of = (name: string): NodeProto['attribute'][number] | undefined => findAttribute(node, name);
  const [float, floats, integer, integers] = ['value_float', 'value_floats', 'value_int', 'value_ints'].map(of);
  if (float !== undefined) return { floats: [float.f], shape: [] };
  if (floats !== undefined) return { floats: floats.floats, shape: [floats.floats.length] };
  if (integer !== undefined) return { integers: [Number(integer.i)], shape: [] };
  if (integers !== undefined) return { integers: integers.ints.map(Number), shape: [integers.ints.length] };
  return undefined;
}

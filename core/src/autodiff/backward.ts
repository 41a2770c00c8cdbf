import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import { NotTrainableError } from '../onnx/errors.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import type { GradientForms } from './forms.ts';
import { gradientRule } from './gradients.ts';
import { ancestors, dependents } from './reachability.ts';

/** Gradients of some scalar with respect to values, by the values' names. */
export type Gradients = ReadonlyMap<string, string>;

/**
 * Reverse-mode differentiation: walks `forward` from behind and writes each node's gradient after it.
 * Only nodes between `wanted` and the seeds take part; a value used twice gets the sum.
 */
export function differentiate(
  graph: GraphBuilder,
  forward: readonly NodeProto[],
  seeds: Gradients,
  wanted: readonly string[],
  forms: GradientForms = {},
): Gradients {
  const moving = dependents(forward, wanted);
  const heard = ancestors(forward, seeds.keys());
  const isActive = (name: string): boolean => moving.has(name) && heard.has(name) && graph.isFloat(name);
  const result = new Map(seeds);
  for (const node of forward.toReversed()) {
    const ofOutputs = node.output.map((name) => result.get(name));
    const positions = node.input.flatMap((name, position) => (isActive(name) ? [position] : []));
    // A Shape, say, is read on the way to the loss, and is no function of the numbers.
    const isOnTheWay = node.output.some((name) => moving.has(name) && heard.has(name));
    if (isOnTheWay && node.output.some((name) => isOtherFloat(graph, name))) throw inOtherFloat(node);
    if (positions.length === 0 || !node.output.some(isActive)) continue;
    const rule = gradientRule(node);
    if (rule === undefined) throw notDifferentiable(node);
    const gradient = ofOutputs.find((name) => name !== undefined);
    if (gradient === undefined) continue;
    const inputGradients = rule({ graph, node, gradient, gradients: ofOutputs, forms });
    for (const position of positions) {
      const rowOf = inputGradients[position];
      if (rowOf === 'fixed') continue;
      const inputGradient = rowOf?.();
      if (inputGradient === undefined) throw notDifferentiable(node, position);
      const name = node.input[position]!;
      const earlier = result.get(name);
      result.set(name, earlier === undefined ? inputGradient : graph.emit('Add', [earlier, inputGradient]));
    }
  }
  return result;
}

const { BFLOAT16, DOUBLE, FLOAT16 } = TensorProto_DataType;
const otherFloats: readonly number[] = [BFLOAT16, DOUBLE, FLOAT16];

const isOtherFloat = (graph: GraphBuilder, name: string): boolean =>
  graph.has(name) && otherFloats.includes(graph.typeOf(name).elemType);

/** Else its gradient would be taken for none. */
function inOtherFloat(node: NodeProto): NotTrainableError {
  return new NotTrainableError(
    `operator ${node.opType} of node '${node.name}' computes in another type than float32; export the trained part in float32`,
    { node: node.name, operator: node.opType },
  );
}

function notDifferentiable(node: NodeProto, position?: number): NotTrainableError {
  const which = position === undefined ? '' : ` for its input ${position}`;
  return new NotTrainableError(
    `operator ${node.opType} of node '${node.name}' has no gradient${which}; replace it or keep it out of the trained part`,
    { node: node.name, operator: node.opType },
  );
}

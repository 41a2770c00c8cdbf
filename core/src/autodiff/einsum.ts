import { contractionOf, equationOf } from '../onnx/einsum.ts';
import { inputShape, refuse, reshapeTo } from './rule.ts';
import type { GradientSite, GradientTable } from './rule.ts';

/** The gradient of a contraction with respect to one operand is a contraction of the others with the result's gradient. */
export const einsum: GradientTable = {
  Einsum: (site) => site.node.input.map((_, position) => () => operandGradient(site, position)),
};

function operandGradient(site: GradientSite, position: number): string {
  const { graph, node, gradient } = site;
  const { operands, result, sizes } = contractionOf(
    node,
    node.input.map((name) => graph.shapeOf(name)),
  );
  const own = operands[position]!;
  if (new Set(own).size !== own.length) {
    refuse(node, `takes a diagonal of its input ${position}; take it with GatherElements instead`);
  }
  const others = operands.filter((_, at) => at !== position);
  const heard = new Set([...result, ...others.flat()]);
  // A letter that only this operand has was summed: all along it get the same.
  const known = own.filter((letter) => heard.has(letter));
  const inputs = [gradient, ...node.input.filter((_, at) => at !== position)];
  const contracted = graph.emit('Einsum', inputs, { equation: equationOf([result, ...others], known) });
  if (known.length === own.length) return contracted;
  const kept = own.map((letter) => (heard.has(letter) ? sizes.get(letter)! : 1));
  return graph.emit('Expand', [reshapeTo(graph, contracted, kept), graph.integers(inputShape(site, position))]);
}

import { reduceTo } from './rule.ts';
import type { GradientSite, GradientTable } from './rule.ts';

/** Gradients of operators that work number by number, with numpy broadcasting. */
export const elementwise: GradientTable = {
  Identity: ({ gradient }) => [() => gradient],
  // At inference a Dropout passes its input on, and the training graph uses it in that form.
  Dropout: ({ gradient }) => [() => gradient],
  Cast: ({ graph, node, gradient }) => [
    () => graph.emit('Cast', [gradient], { to: graph.typeOf(node.input[0]!).elemType }),
  ],
  Neg: ({ graph, gradient }) => [() => graph.emit('Neg', [gradient])],
  Exp: ({ graph, node, gradient }) => [() => graph.emit('Mul', [gradient, node.output[0]!])],
  Log: ({ graph, node, gradient }) => [() => graph.emit('Div', [gradient, node.input[0]!])],
  Sqrt: ({ graph, node, gradient }) => [
    () => graph.emit('Div', [gradient, graph.emit('Mul', [node.output[0]!, graph.scalar(2)])]),
  ],
  Abs: ({ graph, node, gradient }) => [() => graph.emit('Mul', [gradient, graph.emit('Sign', [node.input[0]!])])],
  Add: (site) => [() => fit(site, site.gradient, 0), () => fit(site, site.gradient, 1)],
  Sub: (site) => [() => fit(site, site.gradient, 0), () => site.graph.emit('Neg', [fit(site, site.gradient, 1)])],
  Mul: (site) => [
    () => fit(site, site.graph.emit('Mul', [site.gradient, site.node.input[1]!]), 0),
    () => fit(site, site.graph.emit('Mul', [site.gradient, site.node.input[0]!]), 1),
  ],
  Div: (site) => [
    () => fit(site, site.graph.emit('Div', [site.gradient, site.node.input[1]!]), 0),
    () => {
      const { graph, node, gradient } = site;
      const quotient = graph.emit('Div', [graph.emit('Mul', [gradient, node.output[0]!]), node.input[1]!]);
      return graph.emit('Neg', [fit(site, quotient, 1)]);
    },
  ],
};

function fit({ graph, node }: GradientSite, gradient: string, position: number): string {
  return reduceTo(graph, gradient, graph.shapeOf(node.input[position]!));
}

import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { reduceTo } from './rule.ts';
import type { GradientSite, GradientTable, InputGradient } from './rule.ts';

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
  Reciprocal: ({ graph, node, gradient }) => [
    () => graph.emit('Neg', [graph.emit('Mul', [gradient, square(graph, node.output[0]!)])]),
  ],
  Sin: ({ graph, node, gradient }) => [() => graph.emit('Mul', [gradient, graph.emit('Cos', [node.input[0]!])])],
  Cos: ({ graph, node, gradient }) => [
    () => graph.emit('Neg', [graph.emit('Mul', [gradient, graph.emit('Sin', [node.input[0]!])])]),
  ],
  // The density: 2/√π·exp(−x²).
  Erf: ({ graph, node, gradient }) => [
    () => {
      const bell = graph.emit('Exp', [graph.emit('Neg', [square(graph, node.input[0]!)])]);
      return graph.emit('Mul', [gradient, graph.emit('Mul', [bell, graph.scalar(2 / Math.sqrt(Math.PI))])]);
    },
  ],
  Pow: (site) => {
    const { graph, node, gradient } = site;
    const [base, exponent] = node.input as [string, string];
    const power = (): string => {
      const { elemType } = graph.typeOf(base);
      return graph.typeOf(exponent).elemType === elemType ? exponent : graph.emit('Cast', [exponent], { to: elemType });
    };
    // 0·0⁻¹ and 0·log 0 would be no numbers; their limits are zero, as PyTorch has it.
    const zeroWhere = (value: string, slope: string): string =>
      graph.emit('Where', [graph.emit('Equal', [value, graph.scalar(0)]), graph.scalar(0), slope]);
    return [
      () => {
        const lower = graph.emit('Pow', [base, graph.emit('Sub', [power(), graph.scalar(1)])]);
        const slope = zeroWhere(power(), graph.emit('Mul', [power(), lower]));
        return fit(site, graph.emit('Mul', [gradient, slope]), 0);
      },
      () => {
        const slope = zeroWhere(base, graph.emit('Mul', [node.output[0]!, graph.emit('Log', [base])]));
        return fit(site, graph.emit('Mul', [gradient, slope]), 1);
      },
    ];
  },
  Min: (site) => chosen(site),
  Max: (site) => chosen(site),
  // As in PyTorch the bounds themselves are inside.
  Clip: ({ graph, node, gradient }) => [
    () => {
      const [x, least, most] = node.input;
      let passed = gradient;
      const stopWhere = (operator: string, bound: string | undefined): void => {
        if (bound === undefined || bound === '') return;
        passed = graph.emit('Where', [graph.emit(operator, [x!, bound]), graph.scalar(0), passed]);
      };
      stopWhere('Less', least);
      stopWhere('Greater', most);
      return passed;
    },
  ],
  Where: (site) => {
    const { graph, node, gradient } = site;
    const zero = graph.scalar(0);
    return [
      undefined,
      () => fit(site, graph.emit('Where', [node.input[0]!, gradient, zero]), 1),
      () => fit(site, graph.emit('Where', [node.input[0]!, zero, gradient]), 2),
    ];
  },
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

const square = (graph: GraphBuilder, value: string): string => graph.emit('Mul', [value, value]);

/** The gradient goes to the input that was chosen; inputs that tie share it evenly. */
function chosen(site: GradientSite): InputGradient[] {
  const { graph, node, gradient } = site;
  const [y] = node.output;
  let shared: { marks: string[]; part: string } | undefined;
  const share = (): { marks: string[]; part: string } => {
    if (shared !== undefined) return shared;
    const marks = node.input.map((name) =>
      graph.emit('Cast', [graph.emit('Equal', [name, y!])], { to: TensorProto_DataType.FLOAT }),
    );
    const ties = marks.reduce((sum, mark) => graph.emit('Add', [sum, mark]));
    return (shared = { marks, part: graph.emit('Div', [gradient, ties]) });
  };
  return node.input.map((_, position) => () => {
    const { marks, part } = share();
    return fit(site, graph.emit('Mul', [part, marks[position]!]), position);
  });
}

function fit({ graph, node }: GradientSite, gradient: string, position: number): string {
  return reduceTo(graph, gradient, graph.shapeOf(node.input[position]!));
}

import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import { floatAttribute, intAttribute } from '../onnx/nodes.ts';
import { wrapAxis } from '../tensor/shape.ts';
import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { inputShape, reduceTo } from './rule.ts';
import type { GradientSite, GradientTable } from './rule.ts';

/** Gradients of activation functions, written from their outputs where that saves a pass. */
export const activation: GradientTable = {
  // Runtimes compute a comparison and a Cast in half the time of a Sign, and have both on a GPU.
  Relu: ({ graph, node, gradient }) => [
    () => {
      const isOpen = graph.emit('Greater', [node.output[0]!, graph.scalar(0)]);
      return graph.emit('Mul', [gradient, graph.emit('Cast', [isOpen], { to: TensorProto_DataType.FLOAT })]);
    },
  ],
  LeakyRelu: ({ graph, node, gradient }) => [
    () => {
      const slope = graph.scalar(floatAttribute(node, 'alpha', 0.01));
      const positive = graph.emit('Greater', [node.input[0]!, graph.scalar(0)]);
      return graph.emit('Mul', [gradient, graph.emit('Where', [positive, graph.scalar(1), slope])]);
    },
  ],
  Sigmoid: ({ graph, node, gradient }) => [
    () => {
      const [y] = node.output;
      const slope = graph.emit('Mul', [y!, graph.emit('Sub', [graph.scalar(1), y!])]);
      return graph.emit('Mul', [gradient, slope]);
    },
  ],
  Tanh: ({ graph, node, gradient }) => [
    () => {
      const [y] = node.output;
      const slope = graph.emit('Sub', [graph.scalar(1), graph.emit('Mul', [y!, y!])]);
      return graph.emit('Mul', [gradient, slope]);
    },
  ],
  // Beyond zero 1, below y + α.
  Elu: ({ graph, node, gradient }) => [
    () => scaled(graph, gradient, node, graph.scalar(1), graph.scalar(floatAttribute(node, 'alpha', 1))),
  ],
  // Klambauer et al. 2017: beyond zero γ, below y + γ·α.
  Selu: ({ graph, node, gradient }) => [
    () => {
      const gamma = floatAttribute(node, 'gamma', 1.0507009873554805);
      const alpha = floatAttribute(node, 'alpha', 1.6732632423543772);
      return scaled(graph, gradient, node, graph.scalar(gamma), graph.scalar(gamma * alpha));
    },
  ],
  Softplus: ({ graph, node, gradient }) => [
    () => graph.emit('Mul', [gradient, graph.emit('Sigmoid', [node.input[0]!])]),
  ],
  Softsign: ({ graph, node, gradient }) => [
    () => {
      const spread = graph.emit('Add', [graph.emit('Abs', [node.input[0]!]), graph.scalar(1)]);
      return graph.emit('Div', [gradient, graph.emit('Mul', [spread, spread])]);
    },
  ],
  HardSigmoid: ({ graph, node, gradient }) => [
    () => {
      const slope = graph.scalar(floatAttribute(node, 'alpha', 0.2));
      return within(graph, node.output[0]!, 0, 1, graph.emit('Mul', [gradient, slope]));
    },
  ],
  // x·(x + 3)/6 between −3 and 3 (Howard et al. 2019).
  HardSwish: ({ graph, node, gradient }) => [
    () => {
      const [x] = node.input;
      const inner = graph.emit('Add', [graph.emit('Div', [x!, graph.scalar(3)]), graph.scalar(0.5)]);
      const slope = graph.emit('Where', [graph.emit('Greater', [x!, graph.scalar(3)]), graph.scalar(1), inner]);
      const open = graph.emit('Where', [graph.emit('Less', [x!, graph.scalar(-3)]), graph.scalar(0), slope]);
      return graph.emit('Mul', [gradient, open]);
    },
  ],
  PRelu: ({ graph, node, gradient }) => {
    const [x, slope] = node.input as [string, string];
    const isAbove = (): string => graph.emit('Greater', [x, graph.scalar(0)]);
    return [
      () => graph.emit('Where', [isAbove(), gradient, graph.emit('Mul', [gradient, slope])]),
      () => {
        const below = graph.emit('Where', [isAbove(), graph.scalar(0), graph.emit('Mul', [gradient, x])]);
        return reduceTo(graph, below, graph.shapeOf(slope));
      },
    ];
  },
  Softmax: (site) => [
    () => {
      const { graph, node, gradient } = site;
      const weighted = graph.emit('Mul', [gradient, node.output[0]!]);
      const centred = graph.emit('Sub', [gradient, sumAlongAxis(site, weighted)]);
      return graph.emit('Mul', [node.output[0]!, centred]);
    },
  ],
  LogSoftmax: (site) => [
    () => {
      const { graph, node, gradient } = site;
      const share = graph.emit('Mul', [graph.emit('Exp', [node.output[0]!]), sumAlongAxis(site, gradient)]);
      return graph.emit('Sub', [gradient, share]);
    },
  ],
};

/** The gradient times `above` beyond zero and times y + `offset` below. */
function scaled(graph: GraphBuilder, gradient: string, node: NodeProto, above: string, offset: string): string {
  const isAbove = graph.emit('Greater', [node.input[0]!, graph.scalar(0)]);
  const below = graph.emit('Add', [node.output[0]!, offset]);
  return graph.emit('Mul', [gradient, graph.emit('Where', [isAbove, above, below])]);
}

/** A gradient where a value lies between two bounds, and nothing elsewhere. */
function within(graph: GraphBuilder, value: string, least: number, most: number, gradient: string): string {
  const above = graph.emit('Where', [graph.emit('Greater', [value, graph.scalar(least)]), gradient, graph.scalar(0)]);
  return graph.emit('Where', [graph.emit('Less', [value, graph.scalar(most)]), above, graph.scalar(0)]);
}

function sumAlongAxis(site: GradientSite, value: string): string {
  const axis = wrapAxis(intAttribute(site.node, 'axis', -1), inputShape(site, 0).length);
  return site.graph.emit('ReduceSum', [value, site.graph.integers([axis])], { keepdims: 1 });
}

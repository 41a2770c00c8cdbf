import { floatAttribute, intAttribute } from '../onnx/nodes.ts';
import { wrapAxis } from '../tensor/shape.ts';
import { inputShape } from './rule.ts';
import type { GradientSite, GradientTable } from './rule.ts';

/** Gradients of activation functions, written from their outputs where that saves a pass. */
export const activation: GradientTable = {
  Relu: ({ graph, node, gradient }) => [() => graph.emit('Mul', [gradient, graph.emit('Sign', [node.output[0]!])])],
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

function sumAlongAxis(site: GradientSite, value: string): string {
  const axis = wrapAxis(intAttribute(site.node, 'axis', -1), inputShape(site, 0).length);
  return site.graph.emit('ReduceSum', [value, site.graph.integers([axis])], { keepdims: 1 });
}

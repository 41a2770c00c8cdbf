import { floatAttribute, intAttribute } from '../onnx/nodes.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { wrapAxis } from '../tensor/shape.ts';
import { inputShape, reduceTo, reshapeTo } from './rule.ts';
import type { GradientSite, GradientTable } from './rule.ts';

/** Gradients of normalisations. */
export const normalization: GradientTable = {
  // Ba, Kiros, Hinton 2016.
  LayerNormalization: (site) => {
    const { graph, node, gradient } = site;
    const [, scale, bias] = node.input;
    const rank = inputShape(site, 0).length;
    const first = wrapAxis(intAttribute(node, 'axis', -1), rank);
    const axes = Array.from({ length: rank - first }, (_, index) => first + index);
    let parts: Normalized | undefined;
    const part = (): Normalized =>
      (parts ??= normalized(graph, node.input[0]!, axes, floatAttribute(node, 'epsilon', 1e-5)));
    return [
      () => backThrough(graph, part(), graph.emit('Mul', [gradient, scale!]), axes),
      () => reduceTo(graph, graph.emit('Mul', [gradient, part().value]), graph.shapeOf(scale!)),
      () => reduceTo(graph, gradient, graph.shapeOf(bias!)),
    ];
  },
  // Ulyanov, Vedaldi, Lempitsky 2016: each channel of each example by itself.
  InstanceNormalization: (site) => {
    const { graph, node, gradient } = site;
    const [, scale, bias] = node.input;
    const shape = inputShape(site, 0);
    const axes = Array.from({ length: shape.length - 2 }, (_, index) => index + 2);
    let parts: Normalized | undefined;
    const part = (): Normalized =>
      (parts ??= normalized(graph, node.input[0]!, axes, floatAttribute(node, 'epsilon', 1e-5)));
    const perChannel = (value: string): string => alongChannels(site, value);
    return [
      () => backThrough(graph, part(), graph.emit('Mul', [gradient, perChannel(scale!)]), axes),
      () => sumOfChannels(site, graph.emit('Mul', [gradient, part().value]), graph.shapeOf(scale!)),
      () => sumOfChannels(site, gradient, graph.shapeOf(bias!)),
    ];
  },
  // Ioffe and Szegedy 2015, frozen: the running statistics stay as they were exported, scale and bias are trained.
  BatchNormalization: (site) => {
    const { graph, node, gradient } = site;
    const [x, scale, bias, mean, variance] = node.input as [string, string, string, string, string];
    const inverse = (): string => {
      const spread = graph.emit('Add', [variance, graph.scalar(floatAttribute(node, 'epsilon', 1e-5))]);
      return graph.emit('Reciprocal', [graph.emit('Sqrt', [spread])]);
    };
    return [
      () => graph.emit('Mul', [gradient, alongChannels(site, graph.emit('Mul', [scale, inverse()]))]),
      () => {
        const centred = graph.emit('Sub', [x, alongChannels(site, mean)]);
        const normal = graph.emit('Mul', [centred, alongChannels(site, inverse())]);
        return sumOfChannels(site, graph.emit('Mul', [gradient, normal]), graph.shapeOf(scale));
      },
      () => sumOfChannels(site, gradient, graph.shapeOf(bias)),
      'fixed',
      'fixed',
    ];
  },
};

/** A value with mean 0 and variance 1 along the axes, and what it was divided by, inverted. */
interface Normalized {
  value: string;
  inverse: string;
}

function normalized(graph: GraphBuilder, x: string, axes: readonly number[], epsilon: number): Normalized {
  const centred = graph.emit('Sub', [x, mean(graph, x, axes)]);
  const variance = mean(graph, graph.emit('Mul', [centred, centred]), axes);
  const spread = graph.emit('Sqrt', [graph.emit('Add', [variance, graph.scalar(epsilon)])]);
  const inverse = graph.emit('Reciprocal', [spread]);
  return { value: graph.emit('Mul', [centred, inverse]), inverse };
}

/** Gradient of the value that was normalised: what changes mean and variance is taken out again. */
function backThrough(
  graph: GraphBuilder,
  { value, inverse }: Normalized,
  gradient: string,
  axes: readonly number[],
): string {
  const shift = mean(graph, gradient, axes);
  const stretch = graph.emit('Mul', [value, mean(graph, graph.emit('Mul', [gradient, value]), axes)]);
  const inner = graph.emit('Sub', [graph.emit('Sub', [gradient, shift]), stretch]);
  return graph.emit('Mul', [inner, inverse]);
}

const mean = (graph: GraphBuilder, value: string, axes: readonly number[]): string =>
  graph.emit('ReduceMean', [value], { axes: [...axes], keepdims: 1 });

/** A vector of channels in a shape that broadcasts over [batch, channels, ...]. */
function alongChannels(site: GradientSite, value: string): string {
  const rank = inputShape(site, 0).length;
  const [channels = 1] = site.graph.shapeOf(value);
  return reshapeTo(site.graph, value, [channels, ...Array.from({ length: rank - 2 }, () => 1)]);
}

function sumOfChannels({ graph }: GradientSite, value: string, shape: readonly number[]): string {
  const rank = graph.shapeOf(value).length;
  const axes = Array.from({ length: rank }, (_, axis) => axis).filter((axis) => axis !== 1);
  return reshapeTo(graph, graph.emit('ReduceSum', [value, graph.integers(axes)], { keepdims: 0 }), shape);
}

import { floatAttribute, intAttribute, stringAttribute } from '../../onnx/nodes.ts';
import type { GraphBuilder } from '../../onnx/graph-builder.ts';
import { hasInput } from '../../onnx/shape-rule.ts';
import { reshapeTo, transpose } from '../rule.ts';
import type { Rewrite, RewriteTable } from './rewrite.ts';

/** Functions by the simpler ones that they are made of. */
export const functions: RewriteTable = {
  // Hendrycks and Gimpel 2016.
  Gelu: (graph, node) => {
    const isTanh = stringAttribute(node, 'approximate', 'none') === 'tanh';
    (isTanh ? geluByTanh : geluByErf)(graph, node.input[0]!, node.output[0]!);
  },
  BiasGelu: (graph, node) => geluByErf(graph, graph.emit('Add', [node.input[0]!, node.input[1]!]), node.output[0]!),
  FastGelu: (graph, node) => {
    const [x, bias] = node.input;
    geluByTanh(graph, hasInput(node, 1) ? graph.emit('Add', [x!, bias!]) : x!, node.output[0]!);
  },
  QuickGelu: (graph, node) => {
    const [x] = node.input;
    const scaled = graph.emit('Mul', [x!, graph.scalar(floatAttribute(node, 'alpha', 1.702))]);
    graph.emit('Mul', [x!, graph.emit('Sigmoid', [scaled])], {}, node.output[0]);
  },
  // Ramachandran et al. 2017.
  Swish: (graph, node) => {
    const [x] = node.input;
    const scaled = graph.emit('Mul', [x!, graph.scalar(floatAttribute(node, 'alpha', 1))]);
    graph.emit('Mul', [x!, graph.emit('Sigmoid', [scaled])], {}, node.output[0]);
  },
  // Shi et al. 2016: blocks of pixels out of channels, in either order that exporters have.
  DepthToSpace: (graph, node) => {
    const [x] = node.input;
    const [batch, depth, height, width] = graph.shapeOf(x!) as [number, number, number, number];
    const size = intAttribute(node, 'blocksize', 1);
    const channels = depth / (size * size);
    const isRows = stringAttribute(node, 'mode', 'DCR') === 'CRD';
    const apart = reshapeTo(
      graph,
      x!,
      isRows ? [batch, channels, size, size, height, width] : [batch, size, size, channels, height, width],
    );
    const turned = transpose(graph, apart, isRows ? [0, 1, 4, 2, 5, 3] : [0, 3, 4, 1, 5, 2]);
    graph.emit('Reshape', [turned, graph.integers([batch, channels, height * size, width * size])], {}, node.output[0]);
  },
  SpaceToDepth: (graph, node) => {
    const [x] = node.input;
    const [batch, channels, height, width] = graph.shapeOf(x!) as [number, number, number, number];
    const size = intAttribute(node, 'blocksize', 1);
    const apart = reshapeTo(graph, x!, [batch, channels, height / size, size, width / size, size]);
    const shape = [batch, channels * size * size, height / size, width / size];
    graph.emit('Reshape', [transpose(graph, apart, [0, 3, 5, 1, 2, 4]), graph.integers(shape)], {}, node.output[0]);
  },
  Mish: (graph, node) => {
    const [x] = node.input;
    graph.emit('Mul', [x!, graph.emit('Tanh', [graph.emit('Softplus', [x!])])], {}, node.output[0]);
  },
  Celu: (graph, node) => {
    const alpha = graph.scalar(floatAttribute(node, 'alpha', 1));
    const unit = graph.emit('Elu', [graph.emit('Div', [node.input[0]!, alpha])]);
    graph.emit('Mul', [unit, alpha], {}, node.output[0]);
  },
  ThresholdedRelu: (graph, node) => {
    const [x] = node.input;
    const isAbove = graph.emit('Greater', [x!, graph.scalar(floatAttribute(node, 'alpha', 1))]);
    graph.emit('Where', [isAbove, x!, graph.scalar(0)], {}, node.output[0]);
  },
  Sum: (graph, node) => total(graph, node.input, node.output[0]!),
  Mean: (graph, node) => {
    const sum = total(graph, node.input);
    graph.emit('Div', [sum, graph.scalar(node.input.length)], {}, node.output[0]);
  },
  GlobalMaxPool: (graph, node) => {
    const axes = graph.shapeOf(node.input[0]!).flatMap((_, axis) => (axis < 2 ? [] : [axis]));
    graph.emit('ReduceMax', [node.input[0]!], { axes, keepdims: 1 }, node.output[0]);
  },
  LpNormalization: lpNormalization,
  CastLike: (graph, node) => {
    graph.emit('Cast', [node.input[0]!], { to: graph.typeOf(node.input[1]!).elemType }, node.output[0]);
  },
};

function lpNormalization(...[graph, node]: Parameters<Rewrite>): void {
  const [x] = node.input;
  const operator = intAttribute(node, 'p', 2) === 1 ? 'ReduceL1' : 'ReduceL2';
  const norm = graph.emit(operator, [x!], { axes: [intAttribute(node, 'axis', -1)], keepdims: 1 });
  graph.emit('Div', [x!, norm], {}, node.output[0]);
}

/** x·½·(1 + erf(x/√2)) */
function geluByErf(graph: GraphBuilder, x: string, output: string): void {
  const part = graph.emit('Erf', [graph.emit('Mul', [x, graph.scalar(Math.SQRT1_2)])]);
  halfTimesOneMore(graph, x, part, output);
}

/** x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³))) */
function geluByTanh(graph: GraphBuilder, x: string, output: string): void {
  const square = graph.emit('Mul', [x, x]);
  const bend = graph.emit('Add', [graph.emit('Mul', [square, graph.scalar(0.044715)]), graph.scalar(1)]);
  const inner = graph.emit('Mul', [graph.emit('Mul', [x, bend]), graph.scalar(Math.sqrt(2 / Math.PI))]);
  halfTimesOneMore(graph, x, graph.emit('Tanh', [inner]), output);
}

function halfTimesOneMore(graph: GraphBuilder, x: string, part: string, output: string): void {
  const half = graph.emit('Mul', [x, graph.scalar(0.5)]);
  graph.emit('Mul', [half, graph.emit('Add', [part, graph.scalar(1)])], {}, output);
}

function total(graph: GraphBuilder, values: readonly string[], output?: string): string {
  const [first, ...rest] = values;
  if (rest.length === 0) return graph.emit('Identity', [first!], {}, output);
  return rest.reduce(
    (sum, value, index) => graph.emit('Add', [sum, value], {}, index === rest.length - 1 ? output : undefined),
    first!,
  );
}

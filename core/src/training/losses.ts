import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import { OnnxError } from '../onnx/errors.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { sizeOf } from '../tensor/shape.ts';
import { embeddingLosses } from './embedding-losses.ts';
import type { Shape } from '../tensor/shape.ts';

/** `graph` is one of somebody's own, see loss-graph.ts. */
export type LossName = 'cross-entropy' | 'bce-with-logits' | 'mse' | 'mae' | 'huber' | 'cosine' | 'triplet' | 'graph';

/** What is to be learnt: a class, yes or no for each output, numbers, a vector to be near to, or a class that says which vectors are near. */
export type TargetKind = 'classes' | 'decisions' | 'numbers' | 'vectors' | 'embeddings';

/** What a loss may be told besides. */
export interface LossOptions {
  /** Share of the target that is spread over all classes (Szegedy et al. 2016); cross-entropy. */
  labelSmoothing?: number;
  /** How much an example of each class counts; cross-entropy. */
  classWeights?: readonly number[];
  /** Targets of this class count for nothing; cross-entropy. */
  ignoreIndex?: number;
  /** Where huber turns from a square to a line. */
  delta?: number;
  /** By how much triplet wants another class farther than one's own. */
  margin?: number;
}

/** Where a loss is written: `weights` are the examples' shares, which add up to one. */
export interface LossSite {
  graph: GraphBuilder;
  prediction: string;
  target: string;
  weights: string;
  options: LossOptions;
}

export interface LossRow {
  /** The operator at a model's end that the loss contains already, so training reads its input instead. */
  contains: readonly string[];
  kind: TargetKind;
  targetType: 'int64' | 'float';
  targetShape(prediction: Shape): Shape;
  /** Writes the scalar loss and its gradient with respect to the prediction. */
  write(site: LossSite): { loss: string; gradient: string };
}

/** One row per loss; a loss of an example is the mean over its outputs. */
export const losses: Readonly<Record<Exclude<LossName, 'graph'>, LossRow>> = {
  'cross-entropy': {
    contains: ['Softmax', 'LogSoftmax'],
    kind: 'classes',
    targetType: 'int64',
    targetShape: (prediction) => {
      if (prediction.length >= 2) return prediction.slice(0, -1);
      throw new OnnxError(
        `cross-entropy needs an output [batch, ..., classes] and got [${prediction.join()}]; use another loss`,
      );
    },
    write: (site) => {
      const { graph, prediction, options } = site;
      const { labelSmoothing = 0 } = options;
      const classes = graph.shapeOf(prediction).at(-1)!;
      const logp = graph.emit('LogSoftmax', [prediction], { axis: -1 });
      // Of a target that is smoothed, a share goes to all classes alike.
      const off = labelSmoothing / classes;
      const onOff = graph.floats(Float32Array.of(off, 1 - labelSmoothing + off), [2]);
      const wanted = graph.emit('OneHot', [site.target, graph.integers([classes]), onOff], { axis: -1 });
      const column = sharesOfTargets(site, classes);
      const likelihood = graph.emit('Mul', [graph.emit('Mul', [wanted, logp]), column]);
      const loss = graph.emit('Neg', [graph.emit('ReduceSum', [likelihood], { keepdims: 0 })]);
      const error = graph.emit('Sub', [graph.emit('Exp', [logp]), wanted]);
      return { loss, gradient: graph.emit('Mul', [error, column]) };
    },
  },
  'bce-with-logits': {
    contains: ['Sigmoid'],
    kind: 'decisions',
    targetType: 'float',
    targetShape: (prediction) => prediction,
    write: (site) => {
      const { graph, prediction: x, target } = site;
      // max(x, 0) - x·t + log(1 + exp(-|x|)) cannot overflow.
      const linear = graph.emit('Sub', [graph.emit('Relu', [x]), graph.emit('Mul', [x, target])]);
      const decay = graph.emit('Exp', [graph.emit('Neg', [graph.emit('Abs', [x])])]);
      const losses = graph.emit('Add', [linear, graph.emit('Log', [graph.emit('Add', [decay, graph.scalar(1)])])]);
      return weighted(site, losses, graph.emit('Sub', [graph.emit('Sigmoid', [x]), target]));
    },
  },
  mse: {
    contains: [],
    kind: 'numbers',
    targetType: 'float',
    targetShape: (prediction) => prediction,
    write: (site) => {
      const { graph, prediction, target } = site;
      const error = graph.emit('Sub', [prediction, target]);
      return weighted(site, graph.emit('Mul', [error, error]), graph.emit('Mul', [error, graph.scalar(2)]));
    },
  },
  mae: {
    contains: [],
    kind: 'numbers',
    targetType: 'float',
    targetShape: (prediction) => prediction,
    write: (site) => {
      const { graph, prediction, target } = site;
      const error = graph.emit('Sub', [prediction, target]);
      return weighted(site, graph.emit('Abs', [error]), graph.emit('Sign', [error]));
    },
  },
  // Huber 1964: a square up to delta, a line beyond: ½·e² and delta·(|e| − ½·delta).
  huber: {
    contains: [],
    kind: 'numbers',
    targetType: 'float',
    targetShape: (prediction) => prediction,
    write: (site) => {
      const { graph, prediction, target, options } = site;
      const delta = graph.scalar(options.delta ?? 1);
      const error = graph.emit('Sub', [prediction, target]);
      // e held within ±delta is the slope; e·s − ½·s² is the loss on both sides.
      const slope = graph.emit('Min', [graph.emit('Max', [error, graph.emit('Neg', [delta])]), delta]);
      const half = graph.emit('Mul', [graph.emit('Mul', [slope, slope]), graph.scalar(0.5)]);
      return weighted(site, graph.emit('Sub', [graph.emit('Mul', [error, slope]), half]), slope);
    },
  },
  ...embeddingLosses,
};

/** Names of the losses, as people type them. */
export const lossNames: readonly LossName[] = [...(Object.keys(losses) as LossName[]), 'graph'];

/** How much each target counts: the example's share, split among its positions, times the class's weight. All together add up to one. */
export function sharesOfTargets({ graph, prediction, target, weights, options }: LossSite, classes: number): string {
  const { classWeights, ignoreIndex } = options;
  const targets = graph.shapeOf(target);
  const column = perExample(graph, weights, prediction);
  const positions = sizeOf(targets.slice(1));
  if (classWeights === undefined && ignoreIndex === undefined) {
    return positions === 1 ? column : graph.emit('Div', [column, graph.scalar(positions)]);
  }
  if (classWeights !== undefined && classWeights.length !== classes) {
    throw new OnnxError(`there are ${classWeights.length} class weights and the model has ${classes} classes`);
  }
  const byClass = Float32Array.from({ length: classes }, (_, index) =>
    index === ignoreIndex ? 0 : (classWeights?.[index] ?? 1),
  );
  // An index outside of the classes has a row of zeros, so that it counts for nothing.
  const zeroOne = graph.floats(Float32Array.of(0, 1), [2]);
  const oneHot = graph.emit('OneHot', [target, graph.integers([classes]), zeroOne], { axis: -1 });
  const counts = graph.emit('MatMul', [oneHot, graph.floats(byClass, [classes, 1])]);
  const weighed = graph.emit('Mul', [counts, column]);
  const total = graph.emit('ReduceSum', [weighed], { keepdims: 0 });
  return graph.emit('Div', [weighed, graph.emit('Max', [total, graph.scalar(1e-12)])]);
}

export const elemTypes: Readonly<Record<'int64' | 'float', number>> = {
  int64: TensorProto_DataType.INT64,
  float: TensorProto_DataType.FLOAT,
};

/** Examples' weights as shares of their sum; a batch of zero weight has loss zero instead of no number. */
export function shares(graph: GraphBuilder, sampleWeights: string): string {
  const total = graph.emit('ReduceSum', [sampleWeights], { keepdims: 1 });
  return graph.emit('Div', [sampleWeights, graph.emit('Max', [total, graph.scalar(1e-12)])]);
}

/** The value the loss is taken of: a closing Softmax or Sigmoid is part of the loss. */
export function predictionOf(output: string, nodes: readonly NodeProto[], contains: readonly string[]): string {
  const makers = new Map(nodes.map((node) => [node.output[0], node]));
  let last = makers.get(output);
  let value = output;
  while (last?.opType === 'Identity') {
    value = last.input[0]!;
    last = makers.get(value);
  }
  return last !== undefined && contains.includes(last.opType) ? last.input[0]! : value;
}

/** Sums numbers of all examples by the examples' weights; `slopes` are the derivatives of `values`. */
function weighted(site: LossSite, values: string, slopes: string): { loss: string; gradient: string } {
  const { graph, prediction, weights } = site;
  const outputs = sizeOf(graph.shapeOf(prediction).slice(1));
  const column = graph.emit('Div', [perExample(graph, weights, prediction), graph.scalar(outputs)]);
  const loss = graph.emit('ReduceSum', [graph.emit('Mul', [values, column])], { keepdims: 0 });
  return { loss, gradient: graph.emit('Mul', [slopes, column]) };
}

function perExample(graph: GraphBuilder, weights: string, prediction: string): string {
  const shape = graph.shapeOf(prediction).map((size, axis) => (axis === 0 ? size : 1));
  return graph.emit('Reshape', [weights, graph.integers(shape)]);
}

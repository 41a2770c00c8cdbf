import { differentiate } from '../autodiff/backward.ts';
import { OnnxError } from '../onnx/errors.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { LossRow, LossSite } from './losses.ts';

/** Examples of a batch whose triples are all compared. */
const TRIPLET_BATCH_MAX = 256;
/** Added to squared lengths, as PyTorch does. */
const LENGTH_FLOOR = 1e-12;

/** Losses over vectors that stand for what they are made of. */
export const embeddingLosses: Readonly<Record<'cosine' | 'triplet', LossRow>> = {
  // 1 − cos of the angle to a vector that is given, along the last axis; the mean over what is before it.
  cosine: {
    contains: [],
    kind: 'vectors',
    targetType: 'float',
    targetShape: (prediction) => prediction,
    write: (site) =>
      byGradient(site, ({ graph, prediction, target, weights }) => {
        const along = (a: string, b: string): string =>
          graph.emit('ReduceSum', [graph.emit('Mul', [a, b]), graph.integers([-1])], { keepdims: 0 });
        const floor = graph.scalar(LENGTH_FLOOR);
        const squares = [prediction, target].map((value) => graph.emit('Add', [along(value, value), floor]));
        const lengths = graph.emit('Sqrt', [graph.emit('Mul', squares)]);
        const cosine = graph.emit('Div', [along(prediction, target), lengths]);
        return meanBy(graph, graph.emit('Sub', [graph.scalar(1), cosine]), weights);
      }),
  },
  /**
   * Schroff et al. 2015 over all triples of a batch (Hermans et al. 2017, "batch all"): of an example, one of its class and one of
   * another, the first pair is to be nearer than the second by a margin. The target is the class; batches are drawn as ever.
   */
  triplet: {
    contains: [],
    kind: 'embeddings',
    targetType: 'int64',
    targetShape: (prediction) => {
      if (prediction.length === 2) return prediction.slice(0, 1);
      throw new OnnxError(`triplet needs an output [batch, numbers] and got [${prediction.join()}]; flatten it`);
    },
    write: (site) =>
      byGradient(site, ({ graph, prediction, target, weights, options }) => {
        const [batch] = graph.shapeOf(prediction) as [number];
        if (batch > TRIPLET_BATCH_MAX) {
          throw new OnnxError(
            `triplet compares all triples of a batch, and takes up to ${TRIPLET_BATCH_MAX} examples; this one has ${batch}`,
          );
        }
        const distance = distances(graph, prediction);
        const { near, far } = pairs(graph, target, weights, batch);
        const at = (value: string, axis: number): string => graph.emit('Unsqueeze', [value, graph.integers([axis])]);
        const gap = graph.emit('Sub', [at(distance, 2), at(distance, 1)]);
        const excess = graph.emit('Relu', [graph.emit('Add', [gap, graph.scalar(options.margin ?? 1)])]);
        const isTriple = graph.emit('Mul', [at(near, 2), at(far, 1)]);
        const total = graph.emit('ReduceSum', [graph.emit('Mul', [excess, isTriple])], { keepdims: 0 });
        const count = graph.emit('ReduceSum', [isTriple], { keepdims: 0 });
        return graph.emit('Div', [total, graph.emit('Max', [count, graph.scalar(1)])]);
      }),
  },
};

/** A loss whose gradient the table of operators writes. */
function byGradient(site: LossSite, write: (site: LossSite) => string): { loss: string; gradient: string } {
  const { graph, prediction } = site;
  const start = graph.nodes.length;
  const loss = write(site);
  const nodes = graph.nodes.slice(start);
  const gradient = differentiate(graph, nodes, new Map([[loss, graph.scalar(1)]]), [prediction]).get(prediction)!;
  return { loss, gradient };
}

/** Numbers of each example, the mean of them, and then the mean by the examples' weights. */
function meanBy(graph: GraphBuilder, values: string, weights: string): string {
  const shape = graph.shapeOf(values);
  const share = graph.emit('Reshape', [weights, graph.integers(shape.map((size, axis) => (axis === 0 ? size : 1)))]);
  const column = graph.emit('Div', [share, graph.scalar(sizeOf(shape.slice(1)))]);
  return graph.emit('ReduceSum', [graph.emit('Mul', [values, column])], { keepdims: 0 });
}

/** Euclidean distances between all rows; of a row to itself, and to its like, about zero without a slope. */
function distances(graph: GraphBuilder, rows: string): string {
  const apart = graph.emit('Sub', [
    graph.emit('Unsqueeze', [rows, graph.integers([1])]),
    graph.emit('Unsqueeze', [rows, graph.integers([0])]),
  ]);
  const square = graph.emit('ReduceSum', [graph.emit('Mul', [apart, apart]), graph.integers([-1])], { keepdims: 0 });
  return graph.emit('Sqrt', [graph.emit('Max', [square, graph.scalar(LENGTH_FLOOR)])]);
}

/** 1 where two examples that count are two of one class, and where they are of two classes: [batch, batch]. */
function pairs(graph: GraphBuilder, target: string, weights: string, batch: number): { near: string; far: string } {
  const at = (value: string, axis: number): string => graph.emit('Unsqueeze', [value, graph.integers([axis])]);
  const floats = (value: string): string => graph.emit('Cast', [value], { to: TensorProto_DataType.FLOAT });
  const counts = floats(graph.emit('Greater', [weights, graph.scalar(0)]));
  const both = graph.emit('Mul', [at(counts, 1), at(counts, 0)]);
  const same = floats(graph.emit('Equal', [at(target, 1), at(target, 0)]));
  const itself = Float32Array.from({ length: batch * batch }, (_, index) => (index % (batch + 1) === 0 ? 0 : 1));
  const another = graph.floats(itself, [batch, batch]);
  return {
    near: graph.emit('Mul', [graph.emit('Mul', [same, another]), both]),
    far: graph.emit('Mul', [graph.emit('Sub', [graph.scalar(1), same]), both]),
  };
}

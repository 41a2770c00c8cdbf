import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import { OnnxError } from '../onnx/errors.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import type { TargetKind } from './losses.ts';
import { auc } from './auc.ts';

export type MetricName = 'loss' | 'accuracy' | 'top-k' | 'f1' | 'auc' | 'mae' | 'perplexity';

/** Where a metric is written. */
export interface MetricSite {
  graph: GraphBuilder;
  /** Before a closing Softmax or Sigmoid. */
  prediction: string;
  target: string;
  /** How much each target counts, in the target's shape; nothing for what fills a batch up or is to be ignored. */
  counts: string;
  /** Of top-k. */
  k: number;
  /** Writes the plan's loss, and how many examples it is the mean of. */
  loss(): { loss: string; examples: string };
}

/** Sums by name: those of batches, and of devices, are added up. */
export type Totals = Readonly<Record<string, Float64Array>>;

export interface MetricRow {
  /** What it measures; undefined where that is anything. */
  of?: readonly TargetKind[];
  /** Writes the sums of a batch, by name. */
  write(site: MetricSite): Record<string, string>;
  finish(totals: Totals): number;
}

const classes: readonly TargetKind[] = ['classes'];
const decisions: readonly TargetKind[] = ['classes', 'decisions'];
const numbers: readonly TargetKind[] = ['numbers', 'vectors'];

/** One row per metric. All are quotients of sums, so that no batch and no device has to know of another. */
export const metrics: Readonly<Record<MetricName, MetricRow>> = {
  // The plan's own. Of triplet, and of a loss graph that mixes examples, it hangs on which examples share a batch.
  loss: {
    write: (site) => {
      const { loss, examples } = site.loss();
      return { sum: site.graph.emit('Mul', [loss, examples]), count: examples };
    },
    finish: quotient('sum', 'count'),
  },
  accuracy: {
    of: decisions,
    write: (site) => ({ right: totalOf(site, isRight(site)), count: sum(site.graph, site.counts) }),
    finish: quotient('right', 'count'),
  },
  'top-k': {
    of: classes,
    write: (site) => {
      const { graph, prediction, target, k } = site;
      const all = graph.shapeOf(prediction).at(-1)!;
      if (k > all) throw new OnnxError(`top-k wants the best ${k} and the model has ${all} classes; ask for fewer`);
      const [, places] = graph.emitAll('TopK', [prediction, graph.integers([k])], 2, { axis: -1 });
      const wanted = graph.emit('Unsqueeze', [target, graph.integers([-1])]);
      const found = floats(graph, graph.emit('Equal', [places!, wanted]));
      const any = graph.emit('ReduceMax', [found], { axes: [-1], keepdims: 0 });
      return { among: totalOf(site, any), count: sum(graph, site.counts) };
    },
    finish: quotient('among', 'count'),
  },
  // Of each class 2·hits / (predicted + actual), averaged over the classes that occur (macro).
  f1: {
    of: decisions,
    write: (site) => {
      const { graph, counts } = site;
      const [predicted, actual] = marksByClass(site);
      const share = graph.shapeOf(predicted).length > graph.shapeOf(counts).length ? column(graph, counts) : counts;
      const byClass = (value: string): string => {
        const weighed = graph.emit('Mul', [value, share]);
        const rank = graph.shapeOf(weighed).length;
        // One answer an example, without an axis of its own, is that of one class.
        if (rank === 1) return graph.emit('ReduceSum', [weighed], { keepdims: 1 });
        const axes = Array.from({ length: rank - 1 }, (_, axis) => axis);
        return graph.emit('ReduceSum', [weighed, graph.integers(axes)], { keepdims: 0 });
      };
      return {
        hits: byClass(graph.emit('Mul', [predicted, actual])),
        predicted: byClass(predicted),
        actual: byClass(actual),
      };
    },
    finish: ({ hits, predicted, actual }) => {
      const scores = Array.from(hits!, (hit, at) => ({ hit, marks: predicted![at]! + actual![at]! }));
      const occurring = scores.filter(({ marks }) => marks > 0);
      return occurring.reduce((mean, { hit, marks }) => mean + (2 * hit) / marks / occurring.length, 0);
    },
  },
  auc,
  mae: {
    of: numbers,
    write: (site) => {
      const { graph, prediction, target, counts } = site;
      const error = graph.emit('Abs', [graph.emit('Sub', [prediction, target])]);
      return { distance: totalOf(site, error), count: sum(graph, counts) };
    },
    finish: quotient('distance', 'count'),
  },
  perplexity: {
    of: classes,
    write: (site) => {
      const { graph, prediction, target, counts } = site;
      const classCount = graph.shapeOf(prediction).at(-1)!;
      const logp = graph.emit('LogSoftmax', [prediction], { axis: -1 });
      const zeroOne = graph.floats(Float32Array.of(0, 1), [2]);
      const wanted = graph.emit('OneHot', [target, graph.integers([classCount]), zeroOne], { axis: -1 });
      const likelihood = graph.emit('ReduceSum', [graph.emit('Mul', [logp, wanted]), graph.integers([-1])], {
        keepdims: 0,
      });
      return { surprise: totalOf(site, graph.emit('Neg', [likelihood])), count: sum(graph, counts) };
    },
    finish: (totals) => Math.exp(quotient('surprise', 'count')(totals)),
  },
};

/** Names of the metrics for what is to be learnt. */
export const metricsFor = (kind: TargetKind): MetricName[] =>
  Object.entries(metrics).flatMap(([name, { of }]) =>
    of === undefined || of.includes(kind) ? [name as MetricName] : [],
  );

function quotient(above: string, below: string): (totals: Totals) => number {
  return (totals) => totals[above]![0]! / totals[below]![0]!;
}

const floats = (graph: GraphBuilder, value: string): string =>
  graph.emit('Cast', [value], { to: TensorProto_DataType.FLOAT });

const sum = (graph: GraphBuilder, value: string): string => graph.emit('ReduceSum', [value], { keepdims: 0 });

const totalOf = ({ graph, counts }: MetricSite, value: string): string =>
  sum(graph, graph.emit('Mul', [value, counts]));

const column = (graph: GraphBuilder, value: string): string => graph.emit('Unsqueeze', [value, graph.integers([-1])]);

/** A target of whole numbers names a class; one of floats says yes or no by itself. */
const namesClass = ({ graph, target }: MetricSite): boolean =>
  graph.typeOf(target).elemType === TensorProto_DataType.INT64;

const best = ({ graph, prediction }: MetricSite): string =>
  graph.emit('ArgMax', [prediction], { axis: -1, keepdims: 0 });

/** 1 where the answer is right, in the target's shape. */
function isRight(site: MetricSite): string {
  const { graph, target } = site;
  if (namesClass(site)) return floats(graph, graph.emit('Equal', [best(site), target]));
  const [said, is] = yes(site);
  return floats(graph, graph.emit('Equal', [said, is]));
}

/** Yes or no of the prediction, and of the target. */
function yes({ graph, prediction, target }: MetricSite): [string, string] {
  return [graph.emit('Greater', [prediction, graph.scalar(0)]), graph.emit('Greater', [target, graph.scalar(0.5)])];
}

/** 1 at the class that was predicted and at the one that is, classes last. */
function marksByClass(site: MetricSite): [string, string] {
  const { graph, prediction, target } = site;
  if (!namesClass(site)) {
    const [said, is] = yes(site);
    return [floats(graph, said), floats(graph, is)];
  }
  const count = graph.shapeOf(prediction).at(-1)!;
  const zeroOne = graph.floats(Float32Array.of(0, 1), [2]);
  const mark = (value: string): string => graph.emit('OneHot', [value, graph.integers([count]), zeroOne], { axis: -1 });
  return [mark(best(site)), mark(target)];
}

import { OnnxError } from '../onnx/errors.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { MetricRow, MetricSite } from './metrics.ts';

/** Spans that scores are counted in, for each class; the same for everybody, so that counts add up. */
export const AUC_BINS = 1024;
/** Histograms are kept for so many classes. */
const CLASSES_MAX = 128;

const { BOOL, FLOAT, INT64 } = TensorProto_DataType;

/**
 * Area under the ROC curve: of a pair of one that is of a class and one that is not, the chance that the former has the higher score; the
 * mean over the classes of which there are both. Scores are counted in bins, so that it is made of sums; a pair in one bin counts half. So
 * it is off by half the share of such pairs at most, which `aucBound` gives. The score is the log-odds s of the class, and bins are even
 * in s / (1 + |s|): their width near s is (1 + |s|)² · 2 / AUC_BINS.
 */
export const auc: MetricRow = {
  of: ['classes', 'decisions'],
  write: (site) => {
    const { graph } = site;
    const { scores, marks, counts, classes } = oneAgainstRest(site);
    if (classes > CLASSES_MAX)
      throw new OnnxError(
        `auc keeps a histogram for each class, up to ${CLASSES_MAX}, and the model has ${classes}; leave it out`,
      );
    const spread = graph.emit('Div', [scores, graph.emit('Add', [graph.emit('Abs', [scores]), graph.scalar(1)])]);
    const place = graph.emit('Mul', [graph.emit('Add', [spread, graph.scalar(1)]), graph.scalar(AUC_BINS / 2)]);
    const whole = graph.emit('Min', [graph.emit('Floor', [place]), graph.scalar(AUC_BINS - 1)]);
    const bins = graph.emit('Cast', [graph.emit('Max', [whole, graph.scalar(0)])], { to: INT64 });
    // Each row of [positions, classes] is put into the row of its bin.
    const start = graph.emit('Expand', [graph.scalar(0), graph.integers([AUC_BINS, classes])]);
    const histogram = (value: string): string =>
      graph.emit('ScatterElements', [start, bins, value], { axis: 0, reduction: 'add' });
    const positive = graph.emit('Mul', [marks, counts]);
    return { positive: histogram(positive), negative: histogram(graph.emit('Sub', [counts, positive])) };
  },
  finish: ({ positive, negative }) => meanOver(histograms(positive!, negative!), area),
};

/** By how much the area may be off from that of the scores themselves. */
export const aucBound = (positive: Float64Array, negative: Float64Array): number =>
  meanOver(histograms(positive, negative), ({ positives, negatives }) => {
    const [all, none] = [total(positives), total(negatives)];
    return positives.reduce((sum, count, bin) => sum + count * negatives[bin]!, 0) / (2 * all * none);
  });

interface Histograms {
  positives: Float64Array;
  negatives: Float64Array;
}

const total = (counts: Float64Array): number => counts.reduce((sum, count) => sum + count, 0);

/** Of each class, where both kinds occur. */
function histograms(positive: Float64Array, negative: Float64Array): Histograms[] {
  const classes = positive.length / AUC_BINS;
  return Array.from({ length: classes }, (_, index) => {
    const column = (values: Float64Array): Float64Array =>
      Float64Array.from({ length: AUC_BINS }, (__, bin) => values[bin * classes + index]!);
    return { positives: column(positive), negatives: column(negative) };
  }).filter(({ positives, negatives }) => total(positives) > 0 && total(negatives) > 0);
}

const meanOver = (classes: readonly Histograms[], measure: (one: Histograms) => number): number =>
  classes.length === 0 ? NaN : classes.reduce((sum, one) => sum + measure(one), 0) / classes.length;

function area({ positives, negatives }: Histograms): number {
  let [below, sum] = [0, 0];
  positives.forEach((count, bin) => {
    sum += count * (below + negatives[bin]! / 2);
    below += negatives[bin]!;
  });
  return sum / (total(positives) * total(negatives));
}

interface OneAgainstRest {
  /** All [positions, classes]: log-odds, 1 where it is the class, and how much the position counts. */
  scores: string;
  marks: string;
  counts: string;
  classes: number;
}

/** Each class against all others. */
function oneAgainstRest({ graph, prediction, target, counts }: MetricSite): OneAgainstRest {
  const shape = graph.shapeOf(prediction);
  const isClass = graph.typeOf(target).elemType === INT64;
  const classes = shape.length === 1 ? 1 : shape.at(-1)!;
  const positions = sizeOf(shape) / classes;
  const rows = (value: string, width: number): string =>
    graph.emit('Reshape', [value, graph.integers([positions, width])]);
  if (!isClass) {
    // Each output says yes or no of its own.
    const marks = graph.emit('Cast', [graph.emit('Greater', [rows(target, classes), graph.scalar(0.5)])], {
      to: FLOAT,
    });
    return { scores: rows(prediction, classes), marks, counts: rows(counts, classes), classes };
  }
  const all = graph.emit('Expand', [rows(counts, 1), graph.integers([positions, classes])]);
  const zeroOne = graph.floats(Float32Array.of(0, 1), [2]);
  const label = graph.emit('Reshape', [target, graph.integers([positions])]);
  const marks = graph.emit('OneHot', [label, graph.integers([classes]), zeroOne], { axis: -1 });
  return { scores: logOdds(graph, rows(prediction, classes), classes), marks, counts: all, classes };
}

/** log p − log (1 − p) of each class. */
function logOdds(graph: GraphBuilder, logits: string, classes: number): string {
  // The sum over the others, apart from the class's own, so that nothing cancels: [positions, class, others].
  const others = graph.emit('Unsqueeze', [logits, graph.integers([1])]);
  const own = Float32Array.from({ length: classes * classes }, (_, index) => Number(index % (classes + 1) === 0));
  const isOwn = graph.emit('Cast', [graph.floats(own, [1, classes, classes])], { to: BOOL });
  const masked = graph.emit('Where', [isOwn, graph.scalar(-1e30), others]);
  return graph.emit('Sub', [logits, graph.emit('ReduceLogSumExp', [masked], { axes: [-1], keepdims: 0 })]);
}

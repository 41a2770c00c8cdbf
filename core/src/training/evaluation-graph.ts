import { ConfigError } from '../errors.ts';
import { trainedPart } from '../onnx/border.ts';
import { writeModel } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { sizeOf } from '../tensor/shape.ts';
import { beginGraph, finishGraph, writeForward } from './forward-pass.ts';
import type { DataInput, OpenSizes } from './forward-pass.ts';
import { elemTypes, losses } from './losses.ts';
import type { LossName } from './losses.ts';
import { metrics } from './metrics.ts';
import type { MetricName, Totals } from './metrics.ts';
import type { TrainingPlan } from './plan.ts';

/** What an evaluation measures. */
export interface EvaluationPlan {
  loss: LossName;
  metrics: readonly MetricName[];
  /** Of top-k; 5 where nobody says otherwise. */
  k?: number;
  /** Targets of this class count for nothing. */
  ignoreIndex?: number;
  /** Sizes that the model leaves open. */
  sizes?: OpenSizes;
}

/** What a training plan asks agents to measure; undefined where that is nothing. */
export function evaluationOf({ evaluation, loss, lossOptions, sizes }: TrainingPlan): EvaluationPlan | undefined {
  if (evaluation === undefined) return undefined;
  const { k, metrics: names } = evaluation;
  const ignoreIndex = lossOptions?.ignoreIndex;
  return {
    loss,
    metrics: names,
    ...(k === undefined ? {} : { k }),
    ...(ignoreIndex === undefined ? {} : { ignoreIndex }),
    ...(sizes === undefined ? {} : { sizes }),
  };
}

/** One ONNX graph that measures a batch, and the names by which to drive it. */
export interface EvaluationGraph {
  model: Uint8Array;
  batchSize: number;
  parameters: { name: string; input: string; shape: readonly number[] }[];
  /** What the model reads, in its order. */
  data: DataInput[];
  target: { name: string; shape: readonly number[]; dtype: 'int64' | 'float' };
  /** Input [batch]; zeros fill a partial last batch up. */
  sampleWeights: string;
  /** Outputs by metric and name of the sum: add those of all batches up, and `MetricSums` reads them. */
  totals: { metric: MetricName; name: string; output: string; shape: readonly number[] }[];
}

/** Writes the forward pass, as it is served, and the sums that the metrics are made of as one graph. */
export function buildEvaluationGraph(whole: ModelProto, plan: EvaluationPlan, batchSize: number): EvaluationGraph {
  const wrong = plan.metrics.find((name) => !Object.hasOwn(metrics, name) || !metrics[name].losses.includes(plan.loss));
  if (wrong !== undefined) {
    const fitting = Object.entries(metrics).flatMap(([name, row]) => (row.losses.includes(plan.loss) ? [name] : []));
    throw new ConfigError(`metric ${wrong} is not for ${plan.loss}; use ${fitting.join(', ')}`, 'metrics');
  }
  if (plan.ignoreIndex !== undefined && plan.loss !== 'cross-entropy') {
    throw new ConfigError(`ignoreIndex is for cross-entropy, and the loss is ${plan.loss}`, 'ignoreIndex');
  }
  const model = trainedPart(whole);
  const { graph, layout, data, sampleWeights } = beginGraph(model, batchSize, plan.sizes);
  const { prediction } = writeForward(graph, model, plan.loss);
  const row = losses[plan.loss];
  const shape = row.targetShape(graph.shapeOf(prediction));
  const target = graph.input('training/target', shape, elemTypes[row.targetType]);
  const counts = countsOf(graph, sampleWeights, target, plan.ignoreIndex);
  const totals = plan.metrics.flatMap((metric) => {
    const written = metrics[metric].write({ graph, prediction, target, counts, k: plan.k ?? 5 });
    return Object.entries(written).map(([name, value]) => {
      const output = graph.emit('Identity', [value], {}, `training/${metric}/${name}`);
      return { metric, name, output, shape: graph.shapeOf(output) };
    });
  });
  return {
    model: writeModel(
      finishGraph(
        graph,
        totals.map(({ output }) => output),
      ),
    ),
    batchSize,
    parameters: layout.parameters.map(({ name, shape: size }) => ({ name, input: name, shape: size })),
    data,
    target: { name: target, shape, dtype: row.targetType },
    sampleWeights,
    totals,
  };
}

/** Values of the metrics from the sums of all batches, which `add` collects. */
export class MetricSums {
  readonly #graph: Pick<EvaluationGraph, 'totals'>;
  readonly #sums: Map<string, Float64Array> = new Map();

  constructor(graph: Pick<EvaluationGraph, 'totals'>) {
    this.#graph = graph;
  }

  /** Adds the outputs of one batch, by the outputs' names. */
  add(outputs: Readonly<Record<string, ArrayLike<number>>>): void {
    for (const { output } of this.#graph.totals) {
      const batch = outputs[output]!;
      const sums = this.#sums.get(output) ?? new Float64Array(batch.length);
      this.#sums.set(
        output,
        sums.map((sum, index) => sum + batch[index]!),
      );
    }
  }

  /** By metric; NaN where nothing was counted. */
  values(): Partial<Record<MetricName, number>> {
    const names = [...new Set(this.#graph.totals.map(({ metric }) => metric))];
    return Object.fromEntries(
      names.map((metric) => {
        const own = this.#graph.totals.filter((one) => one.metric === metric);
        const totals: Totals = Object.fromEntries(
          own.map(({ name, output, shape }) => [name, this.#sums.get(output) ?? new Float64Array(sizeOf(shape))]),
        );
        return [metric, metrics[metric].finish(totals)];
      }),
    );
  }
}

/** How much each target counts: its example's weight, or nothing where its class is to be ignored. */
function countsOf(graph: GraphBuilder, sampleWeights: string, target: string, ignoreIndex?: number): string {
  const shape = graph.shapeOf(target);
  const column = graph.emit('Reshape', [
    sampleWeights,
    graph.integers(shape.map((size, axis) => (axis === 0 ? size : 1))),
  ]);
  const counts = graph.emit('Expand', [column, graph.integers(shape)]);
  if (ignoreIndex === undefined) return counts;
  const isIgnored = graph.emit('Equal', [target, graph.integers([ignoreIndex])]);
  const marks = graph.emit('Cast', [isIgnored], { to: TensorProto_DataType.FLOAT });
  return graph.emit('Mul', [counts, graph.emit('Sub', [graph.scalar(1), marks])]);
}

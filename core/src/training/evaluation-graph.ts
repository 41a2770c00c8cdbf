import { ConfigError, invariant } from '../errors.ts';
import { trainedPart } from '../onnx/border.ts';
import { writeModel } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { sameShape, sizeOf } from '../tensor/shape.ts';
import { beginGraph, finishGraph, writeForward } from './forward-pass.ts';
import type { DataInput, OpenSizes } from './forward-pass.ts';
import type { TargetKind } from './losses.ts';
import { lossOf } from './loss.ts';
import type { LossPlan, TargetInput } from './loss.ts';
import { metrics, metricsFor } from './metrics.ts';
import type { MetricName, MetricSite, Totals } from './metrics.ts';
import type { TrainingPlan } from './plan.ts';

/** What an evaluation measures. */
export interface EvaluationPlan extends LossPlan {
  metrics: readonly MetricName[];
  /** Of top-k; 5 where nobody says otherwise. */
  k?: number;
  /** Sizes that the model leaves open. */
  sizes?: OpenSizes;
}

/** What a training plan asks agents to measure; undefined where that is nothing. */
export function evaluationOf(plan: TrainingPlan): EvaluationPlan | undefined {
  const { evaluation, loss, lossOptions, lossGraph, sizes } = plan;
  if (evaluation === undefined) return undefined;
  const { k, metrics: names } = evaluation;
  return {
    loss,
    metrics: names,
    ...(lossOptions === undefined ? {} : { lossOptions }),
    ...(lossGraph === undefined ? {} : { lossGraph }),
    ...(k === undefined ? {} : { k }),
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
  target: TargetInput;
  /** Input [batch]; zeros fill a partial last batch up. */
  sampleWeights: string;
  /** Outputs by metric and name of the sum: add those of all batches up, and `MetricSums` reads them. */
  totals: { metric: MetricName; name: string; output: string; shape: readonly number[] }[];
}

/** Writes the forward pass, as it is served, and the sums that the metrics are made of as one graph. */
export function buildEvaluationGraph(whole: ModelProto, plan: EvaluationPlan, batchSize: number): EvaluationGraph {
  const ofPlan = lossOf(plan);
  const fitting = metricsFor(ofPlan.kind);
  const wrong = plan.metrics.find((name) => !fitting.includes(name));
  if (wrong !== undefined)
    throw new ConfigError(`metric ${wrong} is not for ${plan.loss}; use ${fitting.join(', ')}`, 'metrics');
  const model = trainedPart(whole);
  const { graph, layout, data, sampleWeights } = beginGraph(model, batchSize, plan.sizes);
  const predictions = ofPlan.predictions(model);
  writeForward(graph, model, predictions);
  const [prediction] = predictions as [string];
  const targetInput = ofPlan.target(graph, predictions);
  const target = targetInput.name;
  requireAlike(graph, { prediction, target, plan, kind: ofPlan.kind });
  const counts = countsOf(graph, sampleWeights, target, plan.lossOptions?.ignoreIndex);
  const site: MetricSite = {
    graph,
    prediction,
    target,
    counts,
    k: plan.k ?? 5,
    loss: () => {
      const { loss } = ofPlan.write(graph, { predictions, target, sampleWeights });
      const examples = graph.emit('ReduceSum', [sampleWeights], { keepdims: 0 });
      return { loss, examples };
    },
  };
  const totals = plan.metrics.flatMap((metric) => {
    const written = metrics[metric].write(site);
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
    target: targetInput,
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

  /** One of a metric's sums, by its name. */
  sums(metric: MetricName, name: string): Float64Array {
    const total = this.#graph.totals.find((one) => one.metric === metric && one.name === name);
    invariant(total !== undefined, 'only sums that the graph writes are asked for');
    return this.#sums.get(total.output) ?? new Float64Array(sizeOf(total.shape));
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

/** A loss of somebody's own may have a target that no other metric can read. */
function requireAlike(
  graph: GraphBuilder,
  { prediction, target, plan, kind }: { prediction: string; target: string; plan: EvaluationPlan; kind: TargetKind },
): void {
  const other = plan.metrics.find((name) => name !== 'loss');
  if (plan.loss !== 'graph' || other === undefined) return;
  const [given, wanted] = [graph.shapeOf(target), graph.shapeOf(prediction)];
  if (sameShape(given, kind === 'classes' ? wanted.slice(0, -1) : wanted)) return;
  throw new ConfigError(
    `metric ${other} holds targets [${given.join()}] against predictions [${wanted.join()}], which this loss makes of another kind: measure the loss alone`,
    'metrics',
  );
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

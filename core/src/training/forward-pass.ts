import { ancestors } from '../autodiff/reachability.ts';
import { writeNode } from '../autodiff/rewrite/write-node.ts';
import { contractOf, elemTypeOf } from '../onnx/contract.ts';
import type { TensorSpec } from '../onnx/contract.ts';
import { OnnxError } from '../onnx/errors.ts';
import { graphOf } from '../onnx/file.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import { makeModel, makeValue } from '../onnx/nodes.ts';
import { layoutOf } from '../onnx/parameters.ts';
import type { WeightLayout } from '../onnx/parameters.ts';
import { isEmptyShell } from '../onnx/tensor-data.ts';
import { trainedStatistics } from '../onnx/training-mode.ts';
import { realExamples, writeBatchNormalization } from './batch-statistics.ts';
import type { NextStatistics, RealExamples } from './batch-statistics.ts';
import { writeDropout } from './dropout.ts';
import type { DropoutMask } from './dropout.ts';
import { readable } from './readable.ts';
import type { Rounding } from './rounding.ts';

/** One input that a model reads its data from. */
export interface DataInput {
  name: string;
  /** The batch first. */
  shape: readonly number[];
  /** As a contract names it: float, int64, ... */
  dtype: string;
}

/** Sizes that a model leaves open, by their names in it. */
export type OpenSizes = Readonly<Record<string, number>>;

/** A graph that has the model's data, its parameters and the examples' weights as inputs, and nothing else yet. */
interface Begun {
  graph: GraphBuilder;
  layout: WeightLayout;
  data: DataInput[];
  /** [batch] */
  sampleWeights: string;
}

export function beginGraph(model: ModelProto, batchSize: number, sizes: OpenSizes = {}): Begun {
  const graph = new GraphBuilder('training/');
  const layout = layoutOf(model);
  const { node: nodes, output } = graphOf(model);
  const read = ancestors(
    nodes,
    output.map(({ name }) => name),
  );
  const inputs = contractOf(model).inputs.filter(({ name }) => read.has(name));
  if (inputs.length === 0)
    throw new OnnxError('the model reads no input, so there is nothing to learn from; export it again');
  const data = inputs.map((input) => declareData(graph, input, batchSize, sizes));
  for (const { name, shape } of layout.parameters) graph.input(name, shape);
  return { graph, layout, data, sampleWeights: graph.input('training/weights', [batchSize]) };
}

/** What examples are made of. Others, such as bfloat16, no JavaScript array holds. */
const dataTypes: readonly string[] = [
  ...['float', 'double', 'float16', 'bool'],
  ...['int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64'],
];

/** An input of the graph that is one of the model's, with the batch in place of its first dimension. */
function declareData(graph: GraphBuilder, input: TensorSpec, batchSize: number, sizes: OpenSizes): DataInput {
  const { name, dtype, dims, symbols } = input;
  if (!dataTypes.includes(dtype)) {
    const mend = dtype === 'string' ? 'put what reads texts into a graph in front (--preprocess)' : 'cast it';
    throw new OnnxError(`input '${name}' is of type ${dtype}, and training takes ${dataTypes.join(', ')}; ${mend}`);
  }
  if (dims.length === 0) {
    throw new OnnxError(
      `input '${name}' has no batch: it is one ${dtype}; export it with the batch as first dimension`,
    );
  }
  const shape = dims.map((size, axis) => {
    if (axis === 0) return batchSize;
    return size < 0 ? (sizes[symbols?.[axis] ?? ''] ?? size) : size;
  });
  const open = shape.findIndex((size) => size < 0);
  if (open > 0) {
    const symbol = symbols?.[open] ?? '';
    const mend =
      symbol === ''
        ? 'export it with fixed sizes'
        : `say how long with --size ${symbol}=N, or export it with fixed sizes`;
    throw new OnnxError(`input '${name}' leaves more than the batch open: [${dims.join()}]; ${mend}`);
  }
  graph.input(name, shape, elemTypeOf(dtype));
  return { name, shape, dtype };
}

interface Forward {
  forward: NodeProto[];
  masks: DropoutMask[];
  /** Running statistics by parameter as they are after the step. */
  statistics: NextStatistics;
}

/** What a training step does that a prediction does not. */
interface TrainingMode {
  sampleWeights: string;
  drops: boolean;
  /** What is rounded on the way, where training is to bear it. */
  rounding?: Rounding | undefined;
}

/** Copies what the predictions are computed from; the rest of the model does not train. Without a training mode it predicts. */
export function writeForward(
  graph: GraphBuilder,
  model: ModelProto,
  predictions: readonly string[],
  training?: TrainingMode,
): Forward {
  const { node: nodes, initializer } = graphOf(readable(model));
  const needed = ancestors(nodes, predictions);
  for (const tensor of initializer) if (needed.has(tensor.name) && !isEmptyShell(tensor)) graph.initializer(tensor);
  const parameters = new Set(layoutOf(model).parameters.map(({ name }) => name));
  const masks: DropoutMask[] = [];
  const statistics = new Map<string, string>();
  let real: RealExamples | undefined;
  const wholes: { from: number; to: number; whole: NodeProto }[] = [];
  const start = graph.nodes.length;
  const rounding = training?.rounding;
  rounding?.made(graph.inputs.map(({ name }) => name));
  for (const exact of nodes) {
    if (!exact.output.some((name) => needed.has(name))) continue;
    const node = rounding?.reading(exact) ?? exact;
    const running = trainedStatistics(node, nodes, (name) => parameters.has(name));
    if (running !== undefined && training !== undefined) {
      real ??= realExamples(graph, training.sampleWeights);
      const from = graph.nodes.length;
      const { statistics: moved, whole } = writeBatchNormalization(graph, node, running, real);
      for (const [name, next] of moved) statistics.set(name, next);
      wholes.push({ from: from - start, to: graph.nodes.length - start, whole });
      rounding?.made(node.output);
      continue;
    }
    const drops = node.opType === 'Dropout' && training?.drops === true;
    const mask = drops ? writeDropout(graph, node, masks.length) : undefined;
    if (mask === undefined) writeNode(graph, node);
    else masks.push(mask);
    rounding?.made(node.output);
  }
  for (const [name, next] of rounding?.statistics ?? []) statistics.set(name, next);
  const written = graph.nodes.slice(start);
  for (const { from, to, whole } of wholes.toReversed()) written.splice(from, to - from, whole);
  return { forward: rounding?.walked(written) ?? written, masks, statistics };
}

/** A model of the nodes that these outputs need. */
export function finishGraph(graph: GraphBuilder, outputs: readonly string[]): ModelProto {
  const needed = ancestors(graph.nodes, outputs);
  const nodes = graph.nodes.filter((node) => node.output.some((name) => needed.has(name)));
  return makeModel({
    name: 'training-step',
    domains: [...new Set(nodes.map(({ domain }) => domain))],
    node: nodes,
    initializer: graph.initializers.filter(({ name }) => needed.has(name)),
    input: graph.inputs,
    output: outputs.map((name) => makeValue(name, graph.shapeOf(name), graph.typeOf(name).elemType)),
  });
}

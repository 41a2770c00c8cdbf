import { ancestors } from '../autodiff/reachability.ts';
import { writeNode } from '../autodiff/rewrite/write-node.ts';
import { contractOf } from '../onnx/contract.ts';
import type { TensorSpec } from '../onnx/contract.ts';
import { OnnxError } from '../onnx/errors.ts';
import { graphOf, opsetOf } from '../onnx/file.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import { makeModel, makeValue } from '../onnx/nodes.ts';
import { layoutOf } from '../onnx/parameters.ts';
import type { WeightLayout } from '../onnx/parameters.ts';
import { isEmptyShell } from '../onnx/tensor-data.ts';
import { trainedStatistics } from '../onnx/training-mode.ts';
import { QuantizeError } from '../quantize/errors.ts';
import { raiseOpset } from '../quantize/raise-opset.ts';
import { realExamples, writeBatchNormalization } from './batch-statistics.ts';
import type { NextStatistics, RealExamples } from './batch-statistics.ts';
import { writeDropout } from './dropout.ts';
import type { DropoutMask } from './dropout.ts';
import { elemTypes, predictionOf } from './losses.ts';
import type { LossName } from './losses.ts';
import type { Rounding } from './rounding.ts';

const opsetMax = 23;

/** The model's one data input: numbers or tokens. */
export interface DataInput {
  name: string;
  shape: readonly number[];
  dtype: 'float' | 'int64';
}

/** A graph that has the model's data, its parameters and the examples' weights as inputs, and nothing else yet. */
interface Begun {
  graph: GraphBuilder;
  layout: WeightLayout;
  data: DataInput;
  /** [batch] */
  sampleWeights: string;
}

export function beginGraph(model: ModelProto, batchSize: number): Begun {
  const graph = new GraphBuilder('training/');
  const layout = layoutOf(model);
  const data = declareData(graph, model, batchSize);
  for (const { name, shape } of layout.parameters) graph.input(name, shape);
  return { graph, layout, data, sampleWeights: graph.input('training/weights', [batchSize]) };
}

/** The model in an operator set that gradients are written for: older nodes are written as 13 has them. */
export function readable(model: ModelProto): ModelProto {
  const version = opsetOf(model);
  if (version > opsetMax) {
    throw new OnnxError(
      `the model uses ONNX operator set ${version}; training reads up to ${opsetMax}: export it for 17`,
    );
  }
  try {
    return raiseOpset(model);
  } catch (cause) {
    if (cause instanceof QuantizeError) throw new OnnxError(cause.message, { cause });
    throw cause;
  }
}

/** The model's one data input, with the batch in place of its first dimension. */
function declareData(graph: GraphBuilder, model: ModelProto, batchSize: number): DataInput {
  const { inputs } = contractOf(model);
  const [input, second] = inputs;
  const dtype = input?.dtype;
  if (input === undefined || second !== undefined || (dtype !== 'float' && dtype !== 'int64')) {
    throw new OnnxError(
      `training needs a model with one input of float or int64 and this one has [${inputs.map(describe).join(', ')}]`,
    );
  }
  const shape = input.dims.map((size, axis) => (axis === 0 ? batchSize : size));
  if (shape.includes(-1)) {
    throw new OnnxError(
      `input '${input.name}' leaves more than the batch open: [${input.dims.join()}]; export it with fixed sizes`,
    );
  }
  graph.input(input.name, shape, elemTypes[dtype]);
  return { name: input.name, shape, dtype };
}

function describe({ name, dtype }: TensorSpec): string {
  return `${name}: ${dtype}`;
}

interface Forward {
  forward: NodeProto[];
  prediction: string;
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

/** Copies what the prediction is computed from; the rest of the model does not train. Without a training mode it predicts. */
export function writeForward(graph: GraphBuilder, model: ModelProto, loss: LossName, training?: TrainingMode): Forward {
  // A closing Softmax is told by its own name, which an older one loses on the way.
  const prediction = predictionOf(graphOf(model).output[0]!.name, graphOf(model).node, loss);
  const { node: nodes, initializer } = graphOf(readable(model));
  const needed = ancestors(nodes, [prediction]);
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
  return { forward: rounding?.walked(written) ?? written, prediction, masks, statistics };
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

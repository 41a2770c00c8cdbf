import { ancestors } from '../autodiff/reachability.ts';
import { differentiate } from '../autodiff/backward.ts';
import { contractOf } from '../onnx/contract.ts';
import type { TensorSpec } from '../onnx/contract.ts';
import { NotTrainableError, OnnxError } from '../onnx/errors.ts';
import { graphOf, opsetOf, writeModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import { findAttribute, makeModel, makeNode, makeValue } from '../onnx/nodes.ts';
import { layoutOf } from '../onnx/parameters.ts';
import { isEmptyShell } from '../onnx/tensor-data.ts';
import { elemTypes, losses, predictionOf, shares } from './losses.ts';
import { writeOptimizer } from './optimizers.ts';
import type { StateSlot } from './optimizers.ts';
import type { TrainingPlan } from './plan.ts';

/** One ONNX graph that does one training step, and the names by which to drive it. */
export interface TrainingGraph {
  model: Uint8Array;
  batchSize: number;
  /** In layout order; `output` of one step is `input` of the next. */
  parameters: { name: string; input: string; output: string; shape: readonly number[] }[];
  state: { input: string; output: string; shape: readonly number[]; initial: 'zeros' }[];
  /** Input [1] that scales the learning rate, where the plan has a schedule: see rateFactor. */
  rate?: string;
  /** The round's base weights, for a proximal term only. */
  anchors: { input: string; parameter: string }[];
  data: { name: string; shape: readonly number[]; dtype: 'float' };
  target: { name: string; shape: readonly number[]; dtype: 'int64' | 'float' };
  /** Input [batch]; the loss is the mean by these weights, so a partial last batch is filled up with zeros. */
  sampleWeights: string;
  loss: string;
}

const opsets = { min: 13, max: 22 };

/** Writes forward pass, loss, gradients and optimizer as one graph of standard operators. */
export function buildTrainingGraph(
  model: ModelProto,
  plan: TrainingPlan,
  batchSize: number = plan.batchSize,
): TrainingGraph {
  requireOpset(model);
  const layout = layoutOf(model);
  if (layout.parameters.length === 0) throw new OnnxError('the graph has no parameters; split the model first');
  const graph = new GraphBuilder('training/');
  const data = declareData(graph, model, batchSize);
  for (const { name, shape } of layout.parameters) graph.input(name, shape);
  const { forward, prediction } = writeForward(graph, model, plan);

  const row = losses[plan.loss];
  const targetShape = row.targetShape(graph.shapeOf(prediction));
  const target = graph.input('training/target', targetShape, elemTypes[row.targetType]);
  const sampleWeights = graph.input('training/weights', [batchSize]);
  const { loss, gradient } = row.write({
    graph,
    prediction,
    target,
    weights: shares(graph, sampleWeights),
    options: plan.lossOptions ?? {},
  });

  const names = layout.parameters.map(({ name }) => name);
  const gradients = differentiate(graph, forward, new Map([[prediction, gradient]]), names);
  if (!names.some((name) => gradients.has(name))) throw unreachable(forward);

  const state: StateSlot[] = [];
  const anchors: TrainingGraph['anchors'] = [];
  const rate = plan.schedule === undefined ? undefined : graph.input('training/rate', [1]);
  const update = writeOptimizer(graph, plan.optimizer, state, rate);
  const clip = writeClipping(graph, plan.clip, [...new Set(names.flatMap((name) => gradients.get(name) ?? []))]);
  const found = names.map((name) => gradients.get(name));
  const parameters = layout.parameters.map(({ name, shape }, index) => {
    const output = `training/${name}/next`;
    const own = found[index];
    // Two parameters may share one gradient; each then gets a name of its own, since updates swallow theirs.
    const isShared = own !== undefined && found.indexOf(own) !== found.lastIndexOf(own);
    const plain = isShared ? graph.emit('Identity', [own]) : own;
    if (plain === undefined) graph.emit('Identity', [name], {}, output);
    else {
      const pulled = withProximalTerm(graph, name, clip(plain), plan.proximalMu ?? 0, anchors);
      update(name, withWeightDecay(graph, name, pulled, plan.weightDecay ?? 0), output);
    }
    return { name, input: name, output, shape };
  });

  const outputs = [loss, ...parameters.map(({ output }) => output), ...state.map(({ output }) => output)];
  return {
    model: writeModel(finish(graph, outputs)),
    batchSize,
    parameters,
    state,
    anchors,
    data,
    target: { name: target, shape: targetShape, dtype: row.targetType },
    sampleWeights,
    loss,
    ...(rate === undefined ? {} : { rate }),
  };
}

function requireOpset(model: ModelProto): void {
  const version = opsetOf(model);
  if (version >= opsets.min && version <= opsets.max) return;
  throw new OnnxError(
    `the model uses ONNX operator set ${version}; training reads ${opsets.min} to ${opsets.max}: export it for 17`,
  );
}

/** The model's one data input, with the batch in place of its first dimension. */
function declareData(graph: GraphBuilder, model: ModelProto, batchSize: number): TrainingGraph['data'] {
  const { inputs } = contractOf(model);
  const [input, second] = inputs;
  if (input === undefined || second !== undefined || input.dtype !== 'float') {
    throw new OnnxError(
      `training needs a model with one float input and this one has [${inputs.map(describe).join(', ')}]`,
    );
  }
  const shape = input.dims.map((size, axis) => (axis === 0 ? batchSize : size));
  if (shape.includes(-1)) {
    throw new OnnxError(
      `input '${input.name}' leaves more than the batch open: [${input.dims.join()}]; export it with fixed sizes`,
    );
  }
  graph.input(input.name, shape);
  return { name: input.name, shape, dtype: 'float' };
}

function describe({ name, dtype }: TensorSpec): string {
  return `${name}: ${dtype}`;
}

/** Copies what the prediction is computed from; the rest of the model does not train. */
function writeForward(
  graph: GraphBuilder,
  model: ModelProto,
  plan: TrainingPlan,
): { forward: NodeProto[]; prediction: string } {
  const { node: nodes, initializer, output } = graphOf(model);
  const prediction = predictionOf(output[0]!.name, nodes, plan.loss);
  const needed = ancestors(nodes, [prediction]);
  for (const tensor of initializer) if (needed.has(tensor.name) && !isEmptyShell(tensor)) graph.initializer(tensor);
  const forward: NodeProto[] = [];
  for (const node of nodes) {
    if (!node.output.some((name) => needed.has(name)) || writeConstant(graph, node)) continue;
    const copy = inOpset17(graph, node);
    graph.append(copy);
    forward.push(copy);
  }
  return { forward, prediction };
}

/** A Constant becomes an initializer. */
function writeConstant(graph: GraphBuilder, node: NodeProto): boolean {
  const output = node.output[0]!;
  const tensor = findAttribute(node, 'value')?.t;
  if (node.opType !== 'Constant' || tensor === undefined) return false;
  graph.initializer({ ...tensor, name: output });
  return true;
}

/** Rewrites the few nodes that later operator sets spell differently; nodes of a graph are copied, never shared. */
function inOpset17(graph: GraphBuilder, node: NodeProto): NodeProto {
  const copy: NodeProto = { ...node, input: [...node.input], output: [...node.output], attribute: [...node.attribute] };
  if (node.opType === 'Dropout')
    return { ...copy, opType: 'Identity', input: [node.input[0]!], output: [node.output[0]!], attribute: [] };
  // From 18 on the pieces of a Split are counted by an attribute; before, by its outputs.
  if (node.opType === 'Split') {
    return { ...copy, attribute: copy.attribute.filter(({ name }) => name !== 'num_outputs') };
  }
  const takesAxes = node.opType.startsWith('Reduce') && node.opType !== 'ReduceSum';
  const axes = takesAxes ? graph.constantIntegers(node.input[1] ?? '') : undefined;
  if (axes === undefined) return copy;
  const renamed = makeNode(node.opType, [node.input[0]!], node.output, { axes: [...axes] }, node.name);
  return { ...renamed, attribute: [...renamed.attribute, ...copy.attribute] };
}

/** FedProx (Li et al. 2020): adds mu·(w − anchor) to the gradient. */
function withProximalTerm(
  graph: GraphBuilder,
  parameter: string,
  gradient: string,
  mu: number,
  anchors: TrainingGraph['anchors'],
): string {
  if (mu === 0) return gradient;
  const input = graph.input(`training/${parameter}/anchor`, graph.shapeOf(parameter));
  anchors.push({ input, parameter });
  const drift = graph.emit('Sub', [parameter, input]);
  return graph.emit('Add', [gradient, graph.emit('Mul', [drift, graph.scalar(mu)])]);
}

/** L2: adds decay·w to the gradient, the derivative of decay/2·‖w‖². */
function withWeightDecay(graph: GraphBuilder, parameter: string, gradient: string, decay: number): string {
  if (decay === 0) return gradient;
  return graph.emit('Add', [gradient, graph.emit('Mul', [parameter, graph.scalar(decay)])]);
}

/** Holds gradients within bounds: each value, and then the norm of all of them together (Pascanu et al. 2013). */
function writeClipping(
  graph: GraphBuilder,
  { value, norm }: NonNullable<TrainingPlan['clip']> = {},
  gradients: readonly string[],
): (gradient: string) => string {
  const bounded = new Map<string, string>();
  const bound = (gradient: string): string => {
    if (value === undefined) return gradient;
    const known = bounded.get(gradient);
    if (known !== undefined) return known;
    const fromBelow = graph.emit('Max', [gradient, graph.scalar(-value)]);
    const both = graph.emit('Min', [fromBelow, graph.scalar(value)]);
    bounded.set(gradient, both);
    return both;
  };
  if (norm === undefined) return bound;
  const squares = gradients.map((gradient) => {
    const inside = bound(gradient);
    return graph.emit('ReduceSum', [graph.emit('Mul', [inside, inside])], { keepdims: 0 });
  });
  const total = squares.reduce((sum, square) => graph.emit('Add', [sum, square]));
  const length = graph.emit('Max', [graph.emit('Sqrt', [total]), graph.scalar(1e-12)]);
  const scale = graph.emit('Min', [graph.emit('Div', [graph.scalar(norm), length]), graph.scalar(1)]);
  return (gradient) => graph.emit('Mul', [bound(gradient), scale]);
}

function unreachable(forward: readonly NodeProto[]): NotTrainableError {
  const last = forward.at(-1);
  return new NotTrainableError(
    'no parameter has an influence on the first output; make a trained value the first output',
    {
      node: last?.name ?? '',
      operator: last?.opType ?? '',
    },
  );
}

function finish(graph: GraphBuilder, outputs: readonly string[]): ModelProto {
  const needed = ancestors(graph.nodes, outputs);
  return makeModel({
    name: 'training-step',
    node: graph.nodes.filter((node) => node.output.some((name) => needed.has(name))),
    initializer: graph.initializers.filter(({ name }) => needed.has(name)),
    input: graph.inputs,
    output: outputs.map((name) => makeValue(name, graph.shapeOf(name), graph.typeOf(name).elemType)),
  });
}

import { differentiate } from '../autodiff/backward.ts';
import type { Gradients } from '../autodiff/backward.ts';
import { writeConvolutions } from '../autodiff/convolution.ts';
import type { GradientForms } from '../autodiff/forms.ts';
import { writeGelus } from '../autodiff/gelu.ts';
import { trainedPart } from '../onnx/border.ts';
import { NotTrainableError, OnnxError } from '../onnx/errors.ts';
import { graphOf, writeModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { localMethodOf } from '../strategy/local-methods.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';
import { localLayers } from '../weights/local-layers.ts';
import type { DropoutMask } from './dropout.ts';
import { distilled } from './distillation.ts';
import { beginGraph, finishGraph, writeForward } from './forward-pass.ts';
import type { DataInput } from './forward-pass.ts';
import { lossOf } from './loss.ts';
import { shares } from './losses.ts';
import type { TargetInput } from './loss.ts';
import { writeOptimizer } from './optimizers.ts';
import type { StateSlot } from './optimizers.ts';
import type { TrainingPlan } from './plan.ts';
import { Rounding } from './rounding.ts';

/** How an engine wants the graph of a step to be written. */
export interface StepForms extends GradientForms {
  /** `given`: gradients are inputs of the graph, for an engine that differentiates by itself. Else they are written into it. */
  gradients?: 'written' | 'given';
}

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
  /** What is added to the gradients, for a local method that corrects them only. */
  corrections: { input: string; parameter: string }[];
  /** What the model reads, in its order. */
  data: DataInput[];
  target: TargetInput;
  /** Where the form has gradients given: the input that each parameter's goes into. */
  gradients: { input: string; parameter: string }[];
  /** Input that takes a teacher's answers to the batch, where the plan has a distillation. */
  teacher?: { name: string; shape: readonly number[] };
  /** Inputs of the plan's dropout, which want a new `dropoutMask` each step. */
  masks: DropoutMask[];
  /** Input [batch]; the loss is the mean by these weights, so a partial last batch is filled up with zeros. */
  sampleWeights: string;
  loss: string;
  /** Bytes of all values that a step reads and makes, at 4 a number, were none of them used again. */
  valueBytes: number;
}

/** Writes forward pass, loss, gradients and optimizer as one graph of standard operators. */
export function buildTrainingGraph(
  whole: ModelProto,
  plan: TrainingPlan,
  batchSize: number = plan.batchSize,
  forms: StepForms = {},
): TrainingGraph {
  const model = trainedPart(whole);
  const { graph, layout, data, sampleWeights } = beginGraph(model, batchSize, plan.sizes);
  const start = graph.nodes.length;
  if (layout.parameters.length === 0) throw new OnnxError('the graph has no parameters; split the model first');
  const { quantizationAware } = plan;
  const rounding =
    quantizationAware === undefined ? undefined : new Rounding(graph, model, quantizationAware, sampleWeights);
  const ofPlan = lossOf(plan);
  // A closing Softmax is told by its own name, which an older one loses on the way.
  const predictions = ofPlan.predictions(model);
  const mode = { sampleWeights, drops: plan.dropout === true, rounding };
  const { forward: parts, masks, statistics } = writeForward(graph, model, predictions, mode);
  // What is rounded on its way is walked through step by step.
  const forward = rounding === undefined ? writeGelus(graph, start, parts) : parts;
  writeConvolutions(graph, start, forms);
  const target = ofPlan.target(graph, predictions);
  const hard = ofPlan.write(graph, { predictions, target: target.name, sampleWeights });
  const { distillation, lossOptions = {} } = plan;
  const [prediction] = predictions as [string];
  const weights = shares(graph, sampleWeights);
  const own = { loss: hard.loss, gradient: hard.gradients.get(prediction) ?? '' };
  const soft =
    distillation === undefined
      ? undefined
      : distilled({ graph, prediction, target: target.name, weights, options: lossOptions }, own, distillation);
  const loss = soft?.loss ?? hard.loss;
  const seeds = soft === undefined ? hard.gradients : new Map([[prediction, soft.gradient]]);
  const teacher = soft?.teacher;

  const names = layout.parameters.map(({ name }) => name);
  const written = differentiate(graph, forward, seeds, names, forms);
  if (!names.some((name) => written.has(name))) throw unreachable(forward);
  const given: TrainingGraph['gradients'] = [];
  const gradients = forms.gradients === 'given' ? asInputs(graph, written, names, given) : written;

  const state: StateSlot[] = [];
  const anchors: TrainingGraph['anchors'] = [...(rounding?.anchors ?? [])];
  const corrections: TrainingGraph['corrections'] = [];
  const isCorrected = localMethodOf(plan).correction !== undefined;
  localLayers(layout, plan.localLayers);
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
    if (plain === undefined) graph.emit('Identity', [statistics.get(name) ?? name], {}, output);
    else {
      const pulled = withProximalTerm(graph, name, clip(plain), plan.proximalMu ?? 0, anchors);
      const decayed = withWeightDecay(graph, name, pulled, plan.weightDecay ?? 0);
      const corrected = isCorrected ? withCorrection(graph, name, decayed, corrections) : decayed;
      update(name, plan.keepZeros === true ? withoutZeros(graph, name, shape, corrected) : corrected, output);
    }
    return { name, input: name, output, shape };
  });

  const outputs = [loss, ...parameters.map(({ output }) => output), ...state.map(({ output }) => output)];
  const step = finishGraph(graph, outputs);
  const values = [...graph.inputs.map(({ name }) => name), ...graphOf(step).node.flatMap((node) => node.output)];
  return {
    valueBytes: values.reduce((sum, name) => sum + (name === '' ? 0 : 4 * sizeOf(graph.shapeOf(name))), 0),
    model: writeModel(step),
    batchSize,
    parameters,
    state,
    anchors,
    corrections,
    gradients: given,
    masks,
    data,
    target,
    sampleWeights,
    loss,
    ...(rate === undefined ? {} : { rate }),
    ...(teacher === undefined ? {} : { teacher: { name: teacher, shape: graph.shapeOf(teacher) } }),
  };
}

/** Declares inputs in place of the gradients that were written, which then nobody reads. */
function asInputs(
  graph: GraphBuilder,
  written: Gradients,
  names: readonly string[],
  given: TrainingGraph['gradients'],
): Gradients {
  return new Map(
    names
      .filter((name) => written.has(name))
      .map((parameter) => {
        const input = graph.input(`training/${parameter}/gradient`, graph.shapeOf(parameter));
        given.push({ input, parameter });
        return [parameter, input];
      }),
  );
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

/** Adds a constant of the round, such as the difference of SCAFFOLD's variates. */
function withCorrection(
  graph: GraphBuilder,
  parameter: string,
  gradient: string,
  corrections: TrainingGraph['corrections'],
): string {
  const input = graph.input(`training/${parameter}/correction`, graph.shapeOf(parameter));
  corrections.push({ input, parameter });
  return graph.emit('Add', [gradient, input]);
}

/** A weight of zero has no gradient, so that no optimizer moves it. Vectors, such as biases, begin at zero and are trained. */
function withoutZeros(graph: GraphBuilder, parameter: string, shape: Shape, gradient: string): string {
  if (shape.length < 2) return gradient;
  const isZero = graph.emit('Equal', [parameter, graph.scalar(0)]);
  return graph.emit('Where', [isZero, graph.scalar(0), gradient]);
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

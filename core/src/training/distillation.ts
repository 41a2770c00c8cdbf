import { ConfigError } from '../errors.ts';
import { trainedPart } from '../onnx/border.ts';
import { contractOf } from '../onnx/contract.ts';
import type { TensorSpec } from '../onnx/contract.ts';
import { writeModel } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { sameShape, sizeOf } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';
import { beginGraph, finishGraph, writeForward } from './forward-pass.ts';
import type { DataInput } from './forward-pass.ts';
import { lossOf } from './loss.ts';
import { sharesOfTargets } from './losses.ts';
import type { LossName, LossSite } from './losses.ts';

/** How much a student learns from a teacher's answers, and from labels. */
export interface Distillation {
  /** Divides both models' logits: the higher, the more is said of classes that are unlikely. */
  temperature: number;
  /** Share of the loss that comes from labels. */
  alpha: number;
}

export const distillationDefaults: Distillation = { temperature: 2, alpha: 0.5 };

/** A loss and its gradient with respect to the prediction. */
interface Objective {
  loss: string;
  gradient: string;
}

/**
 * Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network": α·loss + (1 − α)·T²·KL(softmax(teacher/T) ‖ softmax(student/T)).
 * T² makes the second gradient as large as the first at any temperature. Class weights are the labels' alone; an ignored target counts
 * for nothing in either part. Declares the input that takes the teacher's logits.
 */
export function distilled(
  site: LossSite,
  hard: Objective,
  { temperature, alpha }: Distillation,
): Objective & { teacher: string } {
  const { graph, prediction, options } = site;
  const teacher = graph.input('training/teacher', graph.shapeOf(prediction));
  const { classWeights: _, ...soft } = options;
  const column = sharesOfTargets({ ...site, options: soft }, graph.shapeOf(prediction).at(-1)!);
  const logShares = (logits: string): string =>
    graph.emit('LogSoftmax', [graph.emit('Div', [logits, graph.scalar(temperature)])], { axis: -1 });
  const [wanted, said] = [logShares(teacher), logShares(prediction)];
  const shares = graph.emit('Exp', [wanted]);
  const surprise = graph.emit('Mul', [shares, graph.emit('Sub', [wanted, said])]);
  const divergence = graph.emit('ReduceSum', [graph.emit('Mul', [surprise, column])], { keepdims: 0 });
  const error = graph.emit('Sub', [graph.emit('Exp', [said]), shares]);
  const mixed = (own: string, other: string, factor: number): string =>
    graph.emit('Add', [
      graph.emit('Mul', [own, graph.scalar(alpha)]),
      graph.emit('Mul', [other, graph.scalar((1 - alpha) * factor)]),
    ]);
  return {
    loss: mixed(hard.loss, divergence, temperature ** 2),
    gradient: mixed(hard.gradient, graph.emit('Mul', [error, column]), temperature),
    teacher,
  };
}

/** One ONNX graph that gives a teacher's answers to a batch, and the names by which to drive it. */
export interface TeacherGraph {
  model: Uint8Array;
  batchSize: number;
  data: DataInput[];
  sampleWeights: string;
  /** The answers, as the loss reads them: logits. */
  output: string;
  shape: Shape;
}

/** Writes the forward pass of a whole model. A closing Softmax is left out, for the loss has one. */
export function buildTeacherGraph(whole: ModelProto, loss: LossName, batchSize: number): TeacherGraph {
  const model = trainedPart(whole);
  const { graph, data, sampleWeights } = beginGraph(model, batchSize);
  const [prediction] = lossOf({ loss }).predictions(model) as [string];
  writeForward(graph, model, [prediction]);
  return {
    model: writeModel(finishGraph(graph, [prediction])),
    batchSize,
    data,
    sampleWeights,
    output: prediction,
    shape: graph.shapeOf(prediction),
  };
}

/** Throws ConfigError where a teacher's answers say nothing of what the student is asked. Graphs without weights will do. */
export function requireTeacher(student: ModelProto, teacher: ModelProto, loss: LossName): void {
  const [own, other] = [answersOf(student, loss), answersOf(teacher, loss)];
  if (!sameExamples(own.inputs, other.inputs)) {
    throw new ConfigError(
      `the teacher takes ${other.inputs.map(show).join(', ')} and the student ${own.inputs.map(show).join(', ')}: choose a teacher that reads the same examples`,
      'teacher',
    );
  }
  if (sameShape(own.shape, other.shape)) return;
  throw new ConfigError(
    `the teacher answers with [${['batch', ...other.shape.slice(1)].join(', ')}] and the student with [${['batch', ...own.shape.slice(1)].join(', ')}]: choose a teacher with the same outputs`,
    'teacher',
  );
}

function answersOf(whole: ModelProto, loss: LossName): { inputs: readonly TensorSpec[]; shape: Shape } {
  const model = trainedPart(whole);
  const { graph } = beginGraph(model, 1);
  const [prediction] = lossOf({ loss }).predictions(model) as [string];
  writeForward(graph, model, [prediction]);
  return { inputs: contractOf(whole).inputs, shape: graph.shapeOf(prediction) };
}

/** Whether both take as many numbers of the same types, in whatever shapes. */
const sameExamples = (own: readonly TensorSpec[], other: readonly TensorSpec[]): boolean =>
  own.length === other.length &&
  own.every(
    ({ dtype, dims }, i) => dtype === other[i]!.dtype && sizeOf(dims.slice(1)) === sizeOf(other[i]!.dims.slice(1)),
  );

const show = ({ dims, dtype }: TensorSpec): string => `${dtype}[${['batch', ...dims.slice(1)].join(', ')}]`;

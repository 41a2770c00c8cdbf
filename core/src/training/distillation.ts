import { ConfigError } from '../errors.ts';
import { writeModel } from '../onnx/file.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { sameShape, sizeOf } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';
import { beginGraph, finishGraph, writeForward } from './forward-pass.ts';
import type { DataInput } from './forward-pass.ts';
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
  data: DataInput;
  sampleWeights: string;
  /** The answers, as the loss reads them: logits. */
  output: string;
  shape: Shape;
}

/** Writes the forward pass of a whole model. A closing Softmax is left out, for the loss has one. */
export function buildTeacherGraph(model: ModelProto, loss: LossName, batchSize: number): TeacherGraph {
  const { graph, data, sampleWeights } = beginGraph(model, batchSize);
  const { prediction } = writeForward(graph, model, loss);
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
  if (sizeOf(own.data.shape) !== sizeOf(other.data.shape) || own.data.dtype !== other.data.dtype) {
    throw new ConfigError(
      `the teacher takes ${show(other.data)} and the student ${show(own.data)}: choose a teacher that reads the same examples`,
      'teacher',
    );
  }
  if (sameShape(own.shape, other.shape)) return;
  throw new ConfigError(
    `the teacher answers with [${['batch', ...other.shape.slice(1)].join(', ')}] and the student with [${['batch', ...own.shape.slice(1)].join(', ')}]: choose a teacher with the same outputs`,
    'teacher',
  );
}

function answersOf(model: ModelProto, loss: LossName): { data: DataInput; shape: Shape } {
  const { graph, data } = beginGraph(model, 1);
  const { prediction } = writeForward(graph, model, loss);
  return { data, shape: graph.shapeOf(prediction) };
}

const show = ({ shape, dtype }: DataInput): string => `${dtype}[${['batch', ...shape.slice(1)].join(', ')}]`;

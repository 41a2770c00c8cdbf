import { base64Decode } from '@bufbuild/protobuf/wire';
import { differentiate } from '../autodiff/backward.ts';
import type { Gradients } from '../autodiff/backward.ts';
import { writeNode } from '../autodiff/rewrite/write-node.ts';
import { contractOf, elemTypeOf } from '../onnx/contract.ts';
import type { TensorSpec } from '../onnx/contract.ts';
import { OnnxError } from '../onnx/errors.ts';
import { graphOf, readModel } from '../onnx/file.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';
import { readable } from './readable.ts';

/** Bytes of a loss: it travels in the plan, with each assignment. */
export const LOSS_GRAPH_BYTES_MAX: number = 128 * 1024;

const [TARGET, WEIGHTS] = ['target', 'sampleWeights'];
const PREFIX = 'loss/';

/** A loss that somebody wrote as an ONNX graph. */
export interface LossGraph {
  model: ModelProto;
  /** What it reads of the model: outputs by their names, or the first where it reads one. */
  predictions: readonly TensorSpec[];
  target: TensorSpec & { dtype: 'int64' | 'float' };
  readsWeights: boolean;
}

/** Throws OnnxError where the text is no base64, or too long. */
export function decodedLoss(text: string): Uint8Array {
  if (text.length > (LOSS_GRAPH_BYTES_MAX / 3) * 4 + 4) {
    throw new OnnxError(`the loss has over ${LOSS_GRAPH_BYTES_MAX} bytes; keep what it needs of numbers smaller`);
  }
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text)) throw new OnnxError('the loss is no base64');
  return base64Decode(text);
}

/** Reads a loss: inputs are predictions, `target` and, where it wants them, `sampleWeights` [batch]; the first output is the loss. Throws OnnxError. */
export function readLossGraph(bytes: Uint8Array): LossGraph {
  if (bytes.length > LOSS_GRAPH_BYTES_MAX) {
    throw new OnnxError(`the loss has ${bytes.length} bytes; up to ${LOSS_GRAPH_BYTES_MAX} are taken`);
  }
  const model = readModel(bytes);
  const { inputs } = contractOf(model);
  const target = inputs.find(({ name }) => name === TARGET);
  const predictions = inputs.filter(({ name }) => name !== TARGET && name !== WEIGHTS);
  if (target === undefined || predictions.length === 0) {
    const names = inputs.map(({ name }) => `'${name}'`).join(', ');
    throw new OnnxError(
      `the loss has the inputs ${names}; it needs the model's predictions and 'target', and may have 'sampleWeights'`,
    );
  }
  const { dtype } = target;
  if (dtype !== 'int64' && dtype !== 'float')
    throw new OnnxError(`the loss reads a target of ${dtype}; give it int64 (classes) or float`);
  const odd = predictions.find((one) => one.dtype !== 'float');
  if (odd !== undefined) throw new OnnxError(`the loss reads '${odd.name}' as ${odd.dtype}; predictions are float`);
  return {
    model,
    predictions,
    target: { ...target, dtype },
    readsWeights: inputs.some(({ name }) => name === WEIGHTS),
  };
}

/** Which of a model's outputs a loss reads, in the order of its inputs. */
export function predictionsOf({ predictions }: LossGraph, model: ModelProto): string[] {
  const outputs = graphOf(model).output.map(({ name }) => name);
  if (predictions.length === 1 && !outputs.includes(predictions[0]!.name)) return outputs.slice(0, 1);
  return predictions.map(({ name }) => {
    if (outputs.includes(name)) return name;
    throw new OnnxError(
      `the loss reads '${name}', and the model has the outputs ${outputs.map((one) => `'${one}'`).join(', ')}; rename it`,
    );
  });
}

/** The target's shape: sizes that the loss leaves open are those of the predictions that have their names. */
export function targetShapeOf({ predictions, target }: LossGraph, shapes: readonly Shape[]): number[] {
  const sizes = new Map<string, number>();
  const [batch] = shapes[0]!;
  predictions.forEach(({ name, dims, symbols }, index) => {
    const shape = shapes[index]!;
    const fits =
      dims.length === shape.length && dims.every((size, axis) => axis === 0 || size < 0 || size === shape[axis]);
    if (!fits)
      throw new OnnxError(
        `the loss reads '${name}' as [${dims.join()}], and the model gives [${shape.join()}]; make the two alike`,
      );
    symbols?.forEach((symbol, axis) => symbol !== '' && sizes.set(symbol, shape[axis]!));
  });
  return target.dims.map((size, axis) => {
    if (axis === 0) return batch!;
    const known = size >= 0 ? size : sizes.get(target.symbols?.[axis] ?? '');
    if (known !== undefined) return known;
    throw new OnnxError(
      `the target of the loss leaves axis ${axis} open; give it a size, or the name that it has in a prediction`,
    );
  });
}

/** Writes the loss and its gradients with respect to the predictions. Throws OnnxError naming what cannot be differentiated. */
export function writeLossGraph(
  graph: GraphBuilder,
  loss: LossGraph,
  {
    predictions,
    target,
    sampleWeights,
    shares,
  }: { predictions: readonly string[]; target: string; sampleWeights: string; shares: string },
): { loss: string; gradients: Gradients } {
  const own = new Map(loss.predictions.map(({ name }, index) => [name, predictions[index]!]));
  own.set(TARGET, target);
  own.set(WEIGHTS, sampleWeights);
  const rename = (name: string): string => (name === '' ? '' : (own.get(name) ?? `${PREFIX}${name}`));
  const { node: nodes, initializer, output } = graphOf(readable(loss.model));
  for (const tensor of initializer) graph.initializer({ ...tensor, name: rename(tensor.name) });
  const start = graph.nodes.length;
  for (const node of nodes) writeNode(graph, renamed(node, rename));
  const scalar = asScalar(graph, rename(output[0]!.name), loss, shares);
  const gradients = differentiate(graph, graph.nodes.slice(start), new Map([[scalar, graph.scalar(1)]]), predictions);
  if (!predictions.some((name) => gradients.has(name))) {
    throw new OnnxError(
      'the loss does not depend on a prediction, so that nothing can be learnt from it; let its first output be the loss',
    );
  }
  return { loss: scalar, gradients };
}

function renamed(node: NodeProto, rename: (name: string) => string): NodeProto {
  const name = `${PREFIX}${node.name === '' ? (node.output[0] ?? node.opType) : node.name}`;
  return { ...node, name, input: node.input.map(rename), output: node.output.map(rename) };
}

/** One number for the batch: as it is, or the mean of one an example by their weights. */
function asScalar(graph: GraphBuilder, value: string, { readsWeights, model }: LossGraph, shares: string): string {
  const { shape, elemType } = graph.typeOf(value);
  const [batch] = graph.shapeOf(shares) as [number];
  if (elemType !== elemTypeOf('float')) throw new OnnxError('the loss is no float; cast what it computes');
  const isDeclaredScalar = contractOf(model).outputs[0]!.dims.length === 0;
  if (sizeOf(shape) === 1 && (batch > 1 || isDeclaredScalar)) {
    if (readsWeights) return graph.emit('Reshape', [value, graph.integers([])]);
    throw new OnnxError(
      "the loss is one number for the batch and does not read 'sampleWeights', so that what fills a last batch up would count; take the mean by them, or give one number an example",
    );
  }
  if (sizeOf(shape) !== batch)
    throw new OnnxError(`the loss is [${shape.join()}]; give one number an example, [batch], or one for the batch`);
  const each = graph.emit('Reshape', [value, graph.integers([batch])]);
  return graph.emit('ReduceSum', [graph.emit('Mul', [each, shares])], { keepdims: 0 });
}

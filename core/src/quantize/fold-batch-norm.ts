import type { GraphProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import { floatAttribute, intAttribute } from '../onnx/nodes.ts';
import { dimsOf, floatTensor, floatValues } from '../onnx/tensor-data.ts';
import { GraphView, isStandard } from './graph-view.ts';

/** Scales and shifts each convolution's weights by the batch norm behind it: one node, the same function. */
export function foldBatchNorms(graph: GraphProto): GraphProto {
  const view = new GraphView(graph);
  const replaced = new Map<NodeProto, NodeProto | undefined>();
  const initializer = [...graph.initializer];
  for (const conv of graph.node) {
    const norm = view.soleReader(conv.output[0] ?? '');
    if (!isStandard(conv, 'Conv') || norm === undefined || norm.input[0] !== conv.output[0]) continue;
    const folded = isStandard(norm, 'BatchNormalization') ? foldedWeights(conv, norm, view) : undefined;
    if (folded === undefined) continue;
    initializer.push(folded.weight, folded.bias);
    const input = [conv.input[0]!, folded.weight.name, folded.bias.name];
    replaced.set(conv, { ...conv, input, output: [norm.output[0]!] });
    replaced.set(norm, undefined);
  }
  const node = graph.node.flatMap((one) => {
    const substitute = replaced.get(one);
    return substitute !== undefined ? [substitute] : replaced.has(one) ? [] : [one];
  });
  return { ...graph, node, initializer };
}

/** `w' = w * g / sqrt(variance + epsilon)`, `b' = (b - mean) * g / sqrt(variance + epsilon) + beta`. */
function foldedWeights(
  conv: NodeProto,
  norm: NodeProto,
  view: GraphView,
): { weight: TensorProto; bias: TensorProto } | undefined {
  const floats = (name: string | undefined): TensorProto | undefined => {
    const tensor = view.constants.get(name ?? '');
    return tensor?.dataType === TensorProto_DataType.FLOAT ? tensor : undefined;
  };
  const weight = floats(conv.input[1]);
  const statistics = norm.input.slice(1).map(floats);
  const hasBias = (conv.input[2] ?? '') !== '';
  const bias = floats(conv.input[2]);
  const trains = intAttribute(norm, 'training_mode', 0) === 1 || norm.output.slice(1).some((name) => name !== '');
  if (trains || weight === undefined || (hasBias && bias === undefined)) return undefined;
  if (statistics.length !== 4 || statistics.some((tensor) => tensor === undefined)) return undefined;
  const [gain, beta, mean, variance] = statistics.map((tensor) => floatValues(tensor!)) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const epsilon = floatAttribute(norm, 'epsilon', 1e-5);
  const shape = dimsOf(weight);
  const values = floatValues(weight);
  const size = values.length / shape[0]!;
  const before = bias === undefined ? new Float32Array(shape[0]!) : floatValues(bias);
  const shifted = new Float32Array(shape[0]!);
  for (let channel = 0; channel < shifted.length; channel++) {
    const factor = gain[channel]! / Math.sqrt(variance[channel]! + epsilon);
    for (let index = channel * size; index < (channel + 1) * size; index++) values[index] = values[index]! * factor;
    shifted[channel] = (before[channel]! - mean[channel]!) * factor + beta[channel]!;
  }
  return {
    weight: floatTensor(view.freshName(`${weight.name}_folded`), shape, values),
    bias: floatTensor(view.freshName(`${norm.output[0]}_folded_bias`), [shape[0]!], shifted),
  };
}

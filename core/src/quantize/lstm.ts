import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { intAttribute } from '../onnx/nodes.ts';
import { dimsOf, floatValues } from '../onnx/tensor-data.ts';
import { quantizeChannels, transposed } from './channels.ts';
import type { WeightBits } from './channels.ts';
import { labelOf } from './graph-view.ts';
import type { GraphWriter } from './graph-writer.ts';
import { RUNTIME_DOMAIN } from './graph-writer.ts';
import { byteTensor } from './tensors.ts';

/** Inputs of an LSTM: X, W, R, B, sequence lengths, initial state, initial cell, peepholes. */
const LSTM_INPUTS = 8;

/** Writes the LSTM with int8 weights when called, or says why it must stay. */
export function lstmRewriteOf(node: NodeProto, writer: GraphWriter, bits: WeightBits): (() => void) | string {
  const weights = [1, 2].map((position) => writer.view.constants.get(node.input[position] ?? ''));
  const [input, recurrent] = weights;
  if (input === undefined || recurrent === undefined) return 'has no constant weights';
  if (weights.some((tensor) => tensor?.dataType !== TensorProto_DataType.FLOAT))
    return 'has weights that are not float32';
  if (intAttribute(node, 'layout', 0) !== 0) return 'has the batch in front, which the kernel for codes cannot';
  return () => {
    const given = Array.from({ length: LSTM_INPUTS }, (_, position) => node.input[position] ?? '');
    const [w, r] = [gateCodes(input, writer, bits), gateCodes(recurrent, writer, bits)];
    const inputs = [given[0]!, w.codes, r.codes, ...given.slice(3), w.scales, w.zeros, r.scales, r.zeros];
    writer.keep({
      ...node,
      name: labelOf(node),
      opType: 'DynamicQuantizeLSTM',
      domain: RUNTIME_DOMAIN,
      input: inputs,
      attribute: node.attribute.filter(({ name }) => name !== 'layout'),
    });
  };
}

/** `[directions, gates, size]` as codes `[directions, size, gates]`, the order in which they are multiplied. */
function gateCodes(
  weight: TensorProto,
  writer: GraphWriter,
  bits: WeightBits,
): { codes: string; scales: string; zeros: string } {
  const [directions, gates, size] = dimsOf(weight) as [number, number, number];
  const { codes, scales } = quantizeChannels(floatValues(weight), [directions * gates, size], 0, { bits });
  const turned = new Int8Array(codes.length);
  for (let direction = 0; direction < directions; direction++) {
    const start = direction * gates * size;
    turned.set(transposed(codes.subarray(start, start + gates * size), gates, size), start);
  }
  const zeros = new Int8Array(directions * gates);
  return {
    codes: writer.initializer(byteTensor(writer.fresh(`${weight.name}_codes`), [directions, size, gates], turned)),
    scales: writer.floats(`${weight.name}_scales`, [directions, gates], scales),
    zeros: writer.initializer(byteTensor(writer.fresh(`${weight.name}_zeros`), [directions, gates], zeros)),
  };
}

import type { GraphProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { QuantizeError } from './errors.ts';
import { labelOf } from './graph-view.ts';

const QUANTIZED =
  /^(?:QLinear.*|Q(?:Gemm|Attention|EmbedLayerNormalization|MoE)|.*Dequantize.*|.*Quantize.*|MatMulInteger.*|ConvInteger|MatMul\w*Bits|MatMulBnb4)$/;

/** Throws when a node of the graph already computes with codes. */
export function requireUnquantized({ node }: GraphProto): void {
  const found = node.find(({ opType }) => QUANTIZED.test(opType));
  if (found === undefined) return;
  throw new QuantizeError(
    `the model is quantized already: node '${labelOf(found)}' is a ${found.opType}; give the float model it was made from`,
  );
}

import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { floatAttribute, intAttribute } from '../onnx/nodes.ts';
import { dimsOf } from '../onnx/tensor-data.ts';
import type { GraphView } from './graph-view.ts';

/** A MatMul or Gemm with a constant matrix: `output = alpha * activation x weight + beta * bias`. */
export interface DenseLayer {
  node: NodeProto;
  activation: string;
  weight: TensorProto;
  /** Length of the sums: rows of the matrix as it is multiplied. */
  rows: number;
  columns: number;
  /** Whether the weight is stored as `[columns, rows]`. */
  isTransposed: boolean;
  alpha: number;
  beta: number;
  bias: string | undefined;
}

/** Beyond this many products of 8 by 8 bits a sum may leave int32. */
export const ROWS_MAX: number = Math.floor((2 ** 31 - 1) / (255 * 127));

/** Reads the layer, or says why the node is none. */
export function denseLayerOf(node: NodeProto, view: GraphView): DenseLayer | string {
  const weight = view.constants.get(node.input[1] ?? '');
  if (weight === undefined) return 'has no constant weight';
  if (weight.dataType !== TensorProto_DataType.FLOAT) return 'has a weight that is not float32';
  const shape = dimsOf(weight);
  if (shape.length !== 2 || shape.includes(0)) return `has a weight of ${shape.length} axes instead of 2`;
  const isGemm = node.opType === 'Gemm';
  if (isGemm && intAttribute(node, 'transA', 0) === 1) return 'transposes its input';
  const isTransposed = isGemm && intAttribute(node, 'transB', 0) === 1;
  const [rows, columns] = isTransposed ? [shape[1]!, shape[0]!] : [shape[0]!, shape[1]!];
  const bias = isGemm && (node.input[2] ?? '') !== '' ? node.input[2] : undefined;
  const beta = isGemm ? floatAttribute(node, 'beta', 1) : 1;
  if (beta !== 1 && bias !== undefined && !isConstantFloat(bias, view)) return 'scales a bias that is computed';
  const alpha = isGemm ? floatAttribute(node, 'alpha', 1) : 1;
  return { node, activation: node.input[0]!, weight, rows, columns, isTransposed, alpha, beta, bias };
}

export function isConstantFloat(name: string, view: GraphView): boolean {
  return view.constants.get(name)?.dataType === TensorProto_DataType.FLOAT;
}

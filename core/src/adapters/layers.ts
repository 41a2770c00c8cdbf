import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { floatAttribute, intAttribute, intsAttribute } from '../onnx/nodes.ts';
import { dimsOf } from '../onnx/tensor-data.ts';

/** A node that multiplies by a trained tensor. */
export interface Layer {
  node: NodeProto;
  weight: TensorProto;
  /** How the tensor lies: a matrix [inputs, outputs], one turned over, or a kernel [filters, channels of a group, ...]. */
  form: 'matrix' | 'turned' | 'kernel';
  /** What the node's product is multiplied by besides. */
  factor: number;
  groups: number;
}

/** The layers of a graph: MatMul, Gemm and Conv nodes whose weight is a tensor of the file, in the graph's order. */
export function layersOf(graph: GraphProto): Layer[] {
  const tensors = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]));
  const makers = new Map(graph.node.flatMap((node) => node.output.map((name) => [name, node] as const)));
  return graph.node.flatMap((node): Layer[] => {
    const name = node.input[1] ?? '';
    const maker = makers.get(name);
    // An exporter may turn a weight over in front of its product.
    const isTurned = maker?.opType === 'Transpose' && isPlainTurn(maker);
    const weight = tensors.get(isTurned ? maker.input[0]! : name);
    if (weight === undefined || weight.dataType !== TensorProto_DataType.FLOAT) return [];
    const rank = dimsOf(weight).length;
    const flipped = isTurned !== (node.opType === 'Gemm' && intAttribute(node, 'transB', 0) === 1);
    const form = flipped ? 'turned' : 'matrix';
    if (node.opType === 'MatMul' && rank === 2) return [{ node, weight, form, factor: 1, groups: 1 }];
    if (node.opType === 'Gemm' && rank === 2 && intAttribute(node, 'transA', 0) === 0) {
      return [{ node, weight, form, factor: floatAttribute(node, 'alpha', 1), groups: 1 }];
    }
    if (node.opType !== 'Conv' || isTurned) return [];
    return [{ node, weight, form: 'kernel', factor: 1, groups: intAttribute(node, 'group', 1) }];
  });
}

function isPlainTurn(node: NodeProto): boolean {
  const perm = intsAttribute(node, 'perm');
  return perm === undefined || (perm.length === 2 && perm[0] === 1);
}

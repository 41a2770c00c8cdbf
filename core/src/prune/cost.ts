import { contractOf } from '../onnx/contract.ts';
import { graphOf } from '../onnx/file.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { intAttribute } from '../onnx/nodes.ts';
import { dimsOf, floatValues } from '../onnx/tensor-data.ts';
import { sizeOf } from '../tensor/shape.ts';
import { readable } from '../training/readable.ts';
import type { KnownShapes } from './follower.ts';
import { BATCH, shapesOf } from './shapes.ts';

/** What a model is made of, and what one example costs. */
export interface ModelCost {
  /** Float numbers in the file, and how many of them are zero. */
  parameters: number;
  zeros: number;
  /** Multiplications and additions of convolutions and matrix products, two each, for one example. Undefined where shapes are not known. */
  operations: number | undefined;
}

export function costOf(model: ModelProto): ModelCost {
  let [parameters, zeros] = [0, 0];
  for (const tensor of graphOf(model).initializer) {
    if (tensor.dataType !== TensorProto_DataType.FLOAT) continue;
    parameters += sizeOf(dimsOf(tensor));
    for (const value of floatValues(tensor)) if (value === 0) zeros += 1;
  }
  return { parameters, zeros, operations: operationsOf(model) };
}

function operationsOf(model: ModelProto): number | undefined {
  let shapes: KnownShapes;
  const read = readable(model);
  try {
    shapes = shapesOf(read);
  } catch {
    return undefined;
  }
  const isOpen = contractOf(read).inputs.some(({ dims }) => (dims[0] ?? 0) < 0);
  const total = graphOf(read).node.reduce((sum, node) => sum + productsOf(node, shapes), 0);
  return (2 * total) / (isOpen ? BATCH : 1);
}

/** How often a node multiplies two numbers. */
function productsOf(node: NodeProto, { shapeOf }: KnownShapes): number {
  const [a, b] = node.input as [string, string];
  const made = (): number => sizeOf(shapeOf(node.output[0]!));
  switch (node.opType) {
    case 'Conv':
      return made() * sizeOf(shapeOf(b).slice(1));
    case 'ConvTranspose':
      return sizeOf(shapeOf(a)) * sizeOf(shapeOf(b).slice(1));
    case 'MatMul':
      return made() * (shapeOf(a).at(-1) ?? 1);
    case 'Gemm':
      return made() * (shapeOf(a)[intAttribute(node, 'transA', 0) === 1 ? 0 : 1] ?? 1);
    default:
      return 0;
  }
}

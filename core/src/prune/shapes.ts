import { writeNode } from '../autodiff/rewrite/write-node.ts';
import { contractOf } from '../onnx/contract.ts';
import { OnnxError } from '../onnx/errors.ts';
import { graphOf } from '../onnx/file.ts';
import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { GraphBuilder } from '../onnx/graph-builder.ts';
import type { KnownShapes } from './follower.ts';

/** Examples for which shapes are reckoned: not one, so that the batch is told from axes of size one. */
export const BATCH = 2;
/** What an axis is taken to be that a model leaves open besides the batch. */
const OPEN_SIZE = 64;

/** The shapes of all values, for a batch of examples. Throws OnnxError naming the node whose shape is not known before it runs. */
export function shapesOf(model: ModelProto): KnownShapes {
  const builder = new GraphBuilder('shapes/');
  const { node, initializer } = graphOf(model);
  for (const tensor of initializer) builder.initializer(tensor);
  for (const { name, dtype, dims } of contractOf(model).inputs) {
    const shape = dims.map((size, axis) => (size >= 0 ? size : axis === 0 ? BATCH : OPEN_SIZE));
    builder.input(name, shape, elemTypeOf(dtype));
  }
  for (const one of node) {
    try {
      // A copy: the builder gives nodes whose name is taken another one.
      writeNode(builder, { ...one });
    } catch (cause) {
      if (!(cause instanceof OnnxError)) throw cause;
      throw new OnnxError(`channels cannot be followed through the model: ${cause.message}`, { cause });
    }
  }
  return { shapeOf: (name) => builder.shapeOf(name), integersOf: (name) => builder.constantIntegers(name) };
}

function elemTypeOf(dtype: string): number {
  const found = Object.entries(TensorProto_DataType).find(([name]) => name.toLowerCase() === dtype);
  return found?.[1] ?? TensorProto_DataType.FLOAT;
}

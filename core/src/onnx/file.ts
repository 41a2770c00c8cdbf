import { fromBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema } from './gen/onnx/onnx_pb.ts';
import type { GraphProto, ModelProto } from './gen/onnx/onnx_pb.ts';
import { OnnxError } from './errors.ts';
import { scanModel } from './scan.ts';
import { requireWellFormed } from './well-formed.ts';

export { writeModel } from './write.ts';

/** Reads a `.onnx` file, or a split model's graph; throws OnnxError when it cannot be a whole model. */
export function readModel(bytes: Uint8Array): ModelProto {
  scanModel(bytes);
  const model = parse(bytes);
  const graph = graphOf(model);
  if (model.irVersion <= 0n || model.opsetImport.length === 0) {
    throw new OnnxError('the bytes name no ONNX version or operator set; give a .onnx file');
  }
  if (graph.node.length === 0 || graph.output.length === 0) {
    throw new OnnxError('the ONNX graph has no nodes or no outputs; export the model again');
  }
  requireWellFormed(graph);
  return model;
}

export function graphOf(model: ModelProto): GraphProto {
  if (model.graph === undefined) throw new OnnxError('the bytes hold no ONNX graph; give a .onnx file');
  return model.graph;
}

/** Version of the standard operator set that the model was written for. */
export function opsetOf(model: ModelProto): number {
  return Number(model.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 0n);
}

function parse(bytes: Uint8Array): ModelProto {
  try {
    return fromBinary(ModelProtoSchema, bytes);
  } catch (cause) {
    throw new OnnxError('the bytes are not ONNX, or were cut short; give a whole .onnx file', { cause });
  }
}

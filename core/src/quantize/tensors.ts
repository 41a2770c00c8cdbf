import { create } from '@bufbuild/protobuf';
import { TensorProto_DataType, TensorProtoSchema } from '../onnx/gen/onnx/onnx_pb.ts';
import type { TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { Shape } from '../tensor/shape.ts';

/** A tensor of codes. Its bytes are the array's own: nothing is copied. */
export function byteTensor(name: string, shape: Shape, codes: Int8Array | Uint8Array): TensorProto {
  const rawData = new Uint8Array(codes.buffer as ArrayBuffer, codes.byteOffset, codes.byteLength);
  const dataType = codes instanceof Int8Array ? TensorProto_DataType.INT8 : TensorProto_DataType.UINT8;
  return create(TensorProtoSchema, { name, dims: shape.map(BigInt), dataType, rawData });
}

export function int32Tensor(name: string, shape: Shape, values: Int32Array): TensorProto {
  const rawData = new Uint8Array(values.length * 4);
  const view = new DataView(rawData.buffer);
  values.forEach((value, index) => view.setInt32(index * 4, value, true));
  return create(TensorProtoSchema, { name, dims: shape.map(BigInt), dataType: TensorProto_DataType.INT32, rawData });
}

import { create } from '@bufbuild/protobuf';
import { TensorProto_DataLocation, TensorProto_DataType, TensorProtoSchema } from './gen/onnx/onnx_pb.ts';
import type { TensorProto } from './gen/onnx/onnx_pb.ts';
import { OnnxError } from './errors.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';

export function dimsOf(tensor: TensorProto): number[] {
  return tensor.dims.map(Number);
}

/** True when the tensor names a shape but carries no numbers, as the parameters of a split model do. */
export function isEmptyShell(tensor: TensorProto): boolean {
  if (sizeOf(dimsOf(tensor)) === 0) return false;
  const stored = tensor.rawData.length + tensor.floatData.length + tensor.int32Data.length + tensor.int64Data.length;
  return stored + tensor.doubleData.length + tensor.uint64Data.length + tensor.stringData.length === 0;
}

export function floatTensor(name: string, shape: Shape, values: Float32Array): TensorProto {
  return create(TensorProtoSchema, {
    name,
    dims: shape.map(BigInt),
    dataType: TensorProto_DataType.FLOAT,
    rawData: littleEndian(values),
  });
}

export function int64Tensor(name: string, values: readonly number[], shape: Shape = [values.length]): TensorProto {
  const dims = shape.map(BigInt);
  return create(TensorProtoSchema, { name, dims, dataType: TensorProto_DataType.INT64, int64Data: values.map(BigInt) });
}

/** The numbers of a float32 tensor, whichever of ONNX's two ways stores them. */
export function floatValues(tensor: TensorProto): Float32Array {
  if (tensor.rawData.length > 0) return floatsFrom(tensor.rawData);
  return Float32Array.from(tensor.floatData);
}

/** Puts the numbers of a float32 tensor into an array, without a copy in between. */
export function putFloats(tensor: TensorProto, into: Float32Array, offset: number): void {
  const { rawData } = tensor;
  if (rawData.length === 0 || !littleEndianHost) into.set(floatValues(tensor), offset);
  else new Uint8Array(into.buffer, into.byteOffset + 4 * offset, rawData.length).set(rawData);
}

/** The numbers of an int64 or int32 tensor as doubles: shapes, axes and indices fit. */
export function integerValues(tensor: TensorProto): number[] {
  const { rawData } = tensor;
  if (rawData.length === 0) return tensor.int64Data.length > 0 ? tensor.int64Data.map(Number) : [...tensor.int32Data];
  const view = new DataView(rawData.buffer, rawData.byteOffset, rawData.byteLength);
  return tensor.dataType === TensorProto_DataType.INT64
    ? Array.from({ length: rawData.length / 8 }, (_, index) => Number(view.getBigInt64(index * 8, true)))
    : Array.from({ length: rawData.length / 4 }, (_, index) => view.getInt32(index * 4, true));
}

/** Axes of a tensor. */
const AXES_MAX = 32;

/** Bits of one number by type; others are not held against their shape. */
const elementBits: Readonly<Record<number, number>> = Object.fromEntries(
  Object.entries({
    8: ['UINT8', 'INT8', 'BOOL'],
    16: ['UINT16', 'INT16', 'FLOAT16', 'BFLOAT16'],
    32: ['FLOAT', 'INT32', 'UINT32'],
    64: ['INT64', 'DOUBLE', 'UINT64'],
  }).flatMap(([bits, types]) => types.map((type) => [TensorProto_DataType[type as 'FLOAT'], Number(bits)])),
);

/** Throws unless the tensor's numbers are inside the file and as many as its shape says. */
export function requireSound(tensor: TensorProto): void {
  if (tensor.dataLocation === TensorProto_DataLocation.EXTERNAL || tensor.externalData.length > 0) {
    throw new OnnxError(
      `tensor '${tensor.name}' keeps its data in another file; save the model again with all data in one file (PyTorch: external_data=False)`,
    );
  }
  if (tensor.dims.length > AXES_MAX) {
    throw new OnnxError(
      `tensor '${tensor.name}' has ${tensor.dims.length} dimensions, up to ${AXES_MAX} are read; export the model again`,
    );
  }
  if (dimsOf(tensor).some((size) => size < 0)) {
    throw new OnnxError(`tensor '${tensor.name}' has a negative dimension; export the model again`);
  }
  const expected = sizeOf(dimsOf(tensor));
  if (!Number.isSafeInteger(expected)) {
    throw new OnnxError(
      `tensor '${tensor.name}' has the shape [${dimsOf(tensor).join()}], which no memory holds; export the model again`,
    );
  }
  const bits = elementBits[tensor.dataType];
  if (bits === undefined || isEmptyShell(tensor)) return;
  const stored = tensor.rawData.length > 0 ? (tensor.rawData.length * 8) / bits : listedOf(tensor);
  if (stored !== expected) {
    throw new OnnxError(
      `tensor '${tensor.name}' has ${stored} values where its shape [${dimsOf(tensor).join()}] needs ${expected}; ` +
        'the file is damaged or cut short: fetch or export it again',
    );
  }
}

/** Values that are written one by one; ONNX keeps small types among the 32-bit integers. */
function listedOf({ floatData, int32Data, int64Data, doubleData, uint64Data }: TensorProto): number {
  return floatData.length + int32Data.length + int64Data.length + doubleData.length + uint64Data.length;
}

const littleEndianHost = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

export function littleEndian(values: Float32Array): Uint8Array {
  if (littleEndianHost) {
    return new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength).slice();
  }
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => view.setFloat32(index * 4, value, true));
  return bytes;
}

function floatsFrom(bytes: Uint8Array): Float32Array {
  // A copy: `bytes` may be unaligned, and `slice` of a Buffer would be a view.
  if (littleEndianHost) return new Float32Array(new Uint8Array(bytes).buffer);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.length / 4 }, (_, index) => view.getFloat32(index * 4, true));
}

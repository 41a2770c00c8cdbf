import { create } from '@bufbuild/protobuf';
import { TensorProto_DataType, TensorProtoSchema } from '../gen/onnx/onnx_pb.ts';
import type { TensorProto } from '../gen/onnx/onnx_pb.ts';
import { dimsOf, isEmptyShell } from '../tensor-data.ts';
import { sizeOf } from '../../tensor/shape.ts';
import type { Shape } from '../../tensor/shape.ts';

/** Numbers of a constant, each as wide as its element type says. */
export type Numbers = Float32Array | Float64Array | Int8Array | Uint8Array | Int32Array | BigInt64Array;

/** A tensor that is known before the model runs. */
export interface Constant {
  shape: Shape;
  elemType: number;
  data: Numbers;
}

const { BOOL, DOUBLE, FLOAT, INT32, INT64, INT8, UINT8 } = TensorProto_DataType;

const makers: Readonly<Record<number, (length: number) => Numbers>> = {
  [FLOAT]: (length) => new Float32Array(length),
  [DOUBLE]: (length) => new Float64Array(length),
  [INT8]: (length) => new Int8Array(length),
  [UINT8]: (length) => new Uint8Array(length),
  [BOOL]: (length) => new Uint8Array(length),
  [INT32]: (length) => new Int32Array(length),
  [INT64]: (length) => new BigInt64Array(length),
};

/** Room for that many numbers; undefined for element types that are not reckoned with here, such as float16 and text. */
export function room(elemType: number, length: number): Numbers | undefined {
  return makers[elemType]?.(length);
}

/** Bytes of one number; undefined as in `room`. */
export function widthOf(elemType: number): number | undefined {
  return room(elemType, 0)?.BYTES_PER_ELEMENT;
}

/** The numbers of a tensor; undefined for other element types, and where the tensor names a shape but carries none. */
export function readConstant(tensor: TensorProto): Constant | undefined {
  const shape = dimsOf(tensor);
  const data = room(tensor.dataType, sizeOf(shape));
  if (data === undefined || isEmptyShell(tensor)) return undefined;
  const { rawData } = tensor;
  if (rawData.length > 0) bytesOf(data).set(inHostOrder(rawData, data.BYTES_PER_ELEMENT));
  else if (data instanceof BigInt64Array) data.set(tensor.int64Data);
  else data.set(data instanceof Float32Array ? tensor.floatData : listedIn(tensor));
  return { shape, elemType: tensor.dataType, data };
}

/** ONNX keeps small types among the 32-bit integers. */
function listedIn(tensor: TensorProto): number[] {
  return tensor.dataType === DOUBLE ? tensor.doubleData : tensor.int32Data;
}

export function writeConstant(name: string, { shape, elemType, data }: Constant): TensorProto {
  const rawData = inHostOrder(bytesOf(data), data.BYTES_PER_ELEMENT);
  return create(TensorProtoSchema, { name, dims: shape.map(BigInt), dataType: elemType, rawData });
}

function bytesOf(data: Numbers): Uint8Array<ArrayBuffer> {
  return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
}

const isLittleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Files are little-endian. The same bytes where the host is too. */
function inHostOrder<Bytes extends Uint8Array>(bytes: Bytes, width: number): Bytes | Uint8Array<ArrayBuffer> {
  if (isLittleEndian) return bytes;
  const turned = new Uint8Array(bytes.length);
  for (let at = 0; at < bytes.length; at += width) turned.set(bytes.slice(at, at + width).reverse(), at);
  return turned;
}

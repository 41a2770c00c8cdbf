/** The arrays that ONNX tensors are held in. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** Values of a tensor: numbers, or texts. */
export type TensorData = TypedArray | string[];

/** Values and their shape. */
export interface Tensor {
  data: TensorData;
  dims: readonly number[];
}

/** A tensor with ONNX Runtime's name of its element type. */
export interface TypedTensor extends Tensor {
  type: ElementType;
}

/** What one run is given, by the names of the inputs. */
export type Feeds = Readonly<Record<string, TypedTensor>>;

/** Element types in ONNX Runtime's words. */
export type ElementType =
  | 'float32'
  | 'float64'
  | 'float16'
  | 'int8'
  | 'uint8'
  | 'int16'
  | 'uint16'
  | 'int32'
  | 'uint32'
  | 'int64'
  | 'uint64'
  | 'bool'
  | 'string';

interface ElementKind {
  type: ElementType;
  /** What apps hold values in. */
  array: new (length: number) => TensorData;
}

/** By the element type's name in a contract (ONNX's, in lower case). */
const KINDS: Readonly<Record<string, ElementKind>> = {
  float: { type: 'float32', array: Float32Array },
  double: { type: 'float64', array: Float64Array },
  // Apps have floats, which are rounded where they go to the runtime.
  float16: { type: 'float16', array: Float32Array },
  int8: { type: 'int8', array: Int8Array },
  uint8: { type: 'uint8', array: Uint8Array },
  int16: { type: 'int16', array: Int16Array },
  uint16: { type: 'uint16', array: Uint16Array },
  int32: { type: 'int32', array: Int32Array },
  uint32: { type: 'uint32', array: Uint32Array },
  int64: { type: 'int64', array: BigInt64Array },
  uint64: { type: 'uint64', array: BigUint64Array },
  bool: { type: 'bool', array: Uint8Array },
  string: { type: 'string', array: Array<string> },
};

export const elementKind = (dtype: string): ElementKind | undefined =>
  Object.hasOwn(KINDS, dtype) ? KINDS[dtype] : undefined;

/** Zeros, or texts without a letter. */
export function zeros({ array }: ElementKind, length: number): TensorData {
  const data = new array(length);
  return ArrayBuffer.isView(data) ? data : data.fill('');
}

/** Bytes that values take in memory; of texts, about. */
export const bytesIn = (data: TensorData): number =>
  ArrayBuffer.isView(data) ? data.byteLength : data.reduce((sum, text) => sum + 2 * text.length, 0);

export const sizeOf = (dims: readonly number[]): number => dims.reduce((size, dim) => size * dim, 1);

/** Whether every value is a number that means something; integers always are. */
export function isFinite(data: TensorData): boolean {
  if (!(data instanceof Float32Array || data instanceof Float64Array)) return true;
  for (const value of data) if (!Number.isFinite(value)) return false;
  return true;
}

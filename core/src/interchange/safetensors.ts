import { create } from '@bufbuild/protobuf';
import { getTextEncoding } from '@bufbuild/protobuf/wire';
import { CodecError } from '../errors.ts';
import { graphOf } from '../onnx/file.ts';
import { TensorProto_DataType, TensorProtoSchema } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { dimsOf, floatValues, isEmptyShell, littleEndian } from '../onnx/tensor-data.ts';
import { sizeOf } from '../tensor/shape.ts';

/** Named tensors as safetensors files hold them: https://github.com/huggingface/safetensors. */
export interface StoredTensor {
  dtype: StoredType;
  shape: readonly number[];
  /** Little-endian, dense, row by row. */
  bytes: Uint8Array;
}

export interface SafetensorsFile {
  tensors: ReadonlyMap<string, StoredTensor>;
  metadata: ReadonlyMap<string, string>;
}

/** Bytes of one number of each type. */
const widths = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  U64: 8,
  I32: 4,
  U32: 4,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};
export type StoredType = keyof typeof widths;

const utf8 = getTextEncoding();

/** The format's own limit on its JSON header. */
const HEADER_BYTES_MAX = 100_000_000;
const TENSORS_MAX = 100_000;
const AXES_MAX = 32;

/** Reads a file. Throws CodecError for whatever is not exactly a sound file; the tensors are views of the bytes. */
export function readSafetensors(bytes: Uint8Array): SafetensorsFile {
  const { header, data } = splitHeader(bytes);
  const metadata = new Map<string, string>();
  const spans: { name: string; begin: number; end: number }[] = [];
  const tensors = new Map<string, StoredTensor>();
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') {
      for (const [key, text] of Object.entries(recordOf(value, name))) {
        if (typeof text !== 'string') throw bad(`metadata '${key}' is not text`);
        metadata.set(key, text);
      }
      continue;
    }
    const { dtype, shape, begin, end } = entryOf(name, value, data.length);
    spans.push({ name, begin, end });
    tensors.set(name, { dtype, shape, bytes: data.subarray(begin, end) });
  }
  if (tensors.size > TENSORS_MAX) throw bad(`it lists ${tensors.size} tensors; the limit is ${TENSORS_MAX}`);
  requireDense(spans, data.length);
  return { tensors, metadata };
}

/** Writes a file: tensors by falling width and then name, so that equal content is equal bytes and data is aligned. */
export function writeSafetensors(
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: ReadonlyMap<string, string> = new Map(),
): Uint8Array {
  const ordered = [...tensors].sort(
    ([a, { dtype: left }], [b, { dtype: right }]) => widths[right] - widths[left] || (a < b ? -1 : 1),
  );
  const header: [string, unknown][] = metadata.size === 0 ? [] : [['__metadata__', Object.fromEntries(metadata)]];
  let offset = 0;
  for (const [name, { dtype, shape, bytes }] of ordered) {
    if (name === '__metadata__' || bytes.length !== sizeOf(shape) * widths[dtype]) {
      throw new CodecError(`tensor '${name}' cannot be written: its name is reserved or its bytes are not its shape's`);
    }
    header.push([name, { dtype, shape, data_offsets: [offset, offset + bytes.length] }]);
    offset += bytes.length;
  }
  const text = utf8.encodeUtf8(jsonOf(header));
  const headerLength = Math.ceil(text.length / 8) * 8;
  const file = new Uint8Array(8 + headerLength + offset).fill(0x20, 8, 8 + headerLength);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerLength), true);
  file.set(text, 8);
  let position = 8 + headerLength;
  for (const [, { bytes }] of ordered) {
    file.set(bytes, position);
    position += bytes.length;
  }
  return file;
}

/** Not through an object, which would put names that look like numbers first and lose `__proto__`. */
function jsonOf(entries: readonly [string, unknown][]): string {
  return `{${entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`;
}

/** The weights of a model under their names; float32 ones are stored as they are. */
export function weightsToSafetensors(model: ModelProto): Uint8Array {
  const tensors = graphOf(model).initializer.flatMap((tensor): [string, StoredTensor][] => {
    if (tensor.dataType !== TensorProto_DataType.FLOAT || isEmptyShell(tensor)) return [];
    return [[tensor.name, { dtype: 'F32', shape: dimsOf(tensor), bytes: littleEndian(floatValues(tensor)) }]];
  });
  return writeSafetensors(new Map(tensors), new Map([['format', 'onnx']]));
}

/** The model with float32 weights from a file in place of its own. Every weight that it has must fit; none may be left over. */
export function withSafetensors(model: ModelProto, bytes: Uint8Array): ModelProto {
  const { tensors } = readSafetensors(bytes);
  const graph = graphOf(model);
  const names = new Set(graph.initializer.map(({ name }) => name));
  const stray = [...tensors.keys()].find((name) => !names.has(name));
  if (stray !== undefined) throw new CodecError(`the model has no weight '${stray}'; give the file of this model`);
  const initializer = graph.initializer.map((tensor) => {
    if (tensor.dataType !== TensorProto_DataType.FLOAT) return tensor;
    const stored = tensors.get(tensor.name);
    if (stored === undefined)
      throw new CodecError(`weight '${tensor.name}' is not in the file; give the file of this model`);
    return filled(tensor, stored);
  });
  return { ...model, graph: { ...graph, initializer } };
}

function filled(tensor: TensorProto, { dtype, shape, bytes }: StoredTensor): TensorProto {
  const { name, dims, dataType, docString } = tensor;
  if (dtype !== 'F32' || shape.join() !== dimsOf(tensor).join()) {
    throw new CodecError(
      `weight '${name}' is ${dtype}[${shape.join()}] in the file and F32[${dimsOf(tensor).join()}] in the model`,
    );
  }
  return create(TensorProtoSchema, { name, dims, dataType, docString, rawData: bytes.slice() });
}

function splitHeader(bytes: Uint8Array): { header: Record<string, unknown>; data: Uint8Array } {
  if (bytes.length < 8) throw bad('it is shorter than its first field');
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
  if (length > HEADER_BYTES_MAX || length > bytes.length - 8) throw bad(`its header claims ${length} bytes`);
  const encoded = bytes.subarray(8, 8 + length);
  const text = utf8.decodeUtf8(encoded);
  // Decoding puts a replacement where bytes are no text, so what is encoded again tells.
  if (!sameBytes(utf8.encodeUtf8(text), encoded)) throw bad('its header is not UTF-8');
  if (!text.startsWith('{')) throw bad('its header is not a JSON object');
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new CodecError('the file is no safetensors file: its header is not JSON', { cause });
  }
  const record = recordOf(header, 'header');
  requireUniqueNames(text, Object.keys(record).length);
  return { header: record, data: bytes.subarray(8 + length) };
}

/** JSON.parse keeps the last of two equal names, where another reader may keep the first. */
function requireUniqueNames(text: string, names: number): void {
  let [depth, count, awaitsName] = [0, 0, false];
  for (let index = 0; index < text.length; index++) {
    const letter = text[index];
    if (letter === '"') {
      if (depth === 1 && awaitsName) count += 1;
      awaitsName = false;
      for (index += 1; text[index] !== '"'; index++) if (text[index] === '\\') index += 1;
    } else if (letter === '{' || letter === '[') {
      depth += 1;
      awaitsName = depth === 1;
    } else if (letter === '}' || letter === ']') depth -= 1;
    else if (letter === ',' && depth === 1) awaitsName = true;
  }
  if (count !== names) throw bad('two tensors have the same name');
}

function entryOf(
  name: string,
  value: unknown,
  dataLength: number,
): { dtype: StoredType; shape: number[]; begin: number; end: number } {
  const { dtype, shape, data_offsets: offsets, ...others } = recordOf(value, name);
  if (Object.keys(others).length > 0) throw bad(`tensor '${name}' has the unknown field '${Object.keys(others)[0]}'`);
  if (typeof dtype !== 'string' || !isStoredType(dtype))
    throw bad(`tensor '${name}' is of unknown type ${String(dtype)}`);
  if (!isCounts(shape) || shape.length > AXES_MAX) throw bad(`tensor '${name}' has no sound shape`);
  if (!isCounts(offsets) || offsets.length !== 2) throw bad(`tensor '${name}' has no sound offsets`);
  const [begin, end] = offsets as [number, number];
  const bytes = sizeOf(shape) * widths[dtype];
  if (begin > end || end > dataLength) throw bad(`tensor '${name}' lies outside the file`);
  if (!Number.isSafeInteger(bytes) || end - begin !== bytes) {
    throw bad(`tensor '${name}' has ${end - begin} bytes where its shape needs ${bytes}`);
  }
  return { dtype, shape, begin, end };
}

/** No byte belongs to two tensors, and none to no tensor. */
function requireDense(spans: { name: string; begin: number; end: number }[], dataLength: number): void {
  let position = 0;
  for (const { name, begin, end } of spans.sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== position) throw bad(`tensor '${name}' ${begin < position ? 'overlaps another' : 'leaves a gap'}`);
    position = end;
  }
  if (position !== dataLength) throw bad(`${dataLength - position} bytes belong to no tensor`);
}

function recordOf(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(`'${name}' is not an object`);
  return value as Record<string, unknown>;
}

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, index) => byte === b[index]);

const isStoredType = (dtype: string): dtype is StoredType => Object.hasOwn(widths, dtype);

const isCounts = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((count) => Number.isSafeInteger(count) && count >= 0);

const bad = (why: string): CodecError => new CodecError(`the file is no safetensors file: ${why}`);

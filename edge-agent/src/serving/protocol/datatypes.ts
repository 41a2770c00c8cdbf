/** The protocol's datatypes and how their values travel: as JSON, as bytes, and as typed arrays. */
import { elementKind, type TensorData, type TypedArray } from '@commonweight/client-sdk';
import { float16Bits, float16Value, type TensorSpec } from '@commonweight/core';
import { quoted, ServingError } from '../errors.ts';

/** A tensor of a request or an answer, in the protocol's words. */
export interface WireTensor {
  datatype: string;
  shape: readonly number[];
  data: TensorData;
}

interface Datatype {
  /** The element type's name in a model's contract. */
  dtype: string;
  /** Field of InferTensorContents; the protocol has none for halves, which come as bytes or as JSON. */
  contents: ContentsField | undefined;
  range?: readonly [number | bigint, number | bigint];
}

export type ContentsField =
  | 'boolContents'
  | 'intContents'
  | 'int64Contents'
  | 'uintContents'
  | 'uint64Contents'
  | 'fp32Contents'
  | 'fp64Contents'
  | 'bytesContents';

const DATATYPES: Readonly<Record<string, Datatype>> = {
  BOOL: { dtype: 'bool', contents: 'boolContents' },
  UINT8: { dtype: 'uint8', contents: 'uintContents', range: [0, 255] },
  UINT16: { dtype: 'uint16', contents: 'uintContents', range: [0, 65_535] },
  UINT32: { dtype: 'uint32', contents: 'uintContents', range: [0, 2 ** 32 - 1] },
  UINT64: { dtype: 'uint64', contents: 'uint64Contents', range: [0n, 2n ** 64n - 1n] },
  INT8: { dtype: 'int8', contents: 'intContents', range: [-128, 127] },
  INT16: { dtype: 'int16', contents: 'intContents', range: [-32_768, 32_767] },
  INT32: { dtype: 'int32', contents: 'intContents', range: [-(2 ** 31), 2 ** 31 - 1] },
  INT64: { dtype: 'int64', contents: 'int64Contents', range: [-(2n ** 63n), 2n ** 63n - 1n] },
  FP32: { dtype: 'float', contents: 'fp32Contents' },
  FP64: { dtype: 'double', contents: 'fp64Contents' },
  FP16: { dtype: 'float16', contents: undefined },
  // Of texts, in UTF-8.
  BYTES: { dtype: 'string', contents: 'bytesContents' },
};

/** From here on a half is infinite. */
const HALF_END = 65_520;

const NAMES: ReadonlyMap<string, string> = new Map(Object.entries(DATATYPES).map(([name, { dtype }]) => [dtype, name]));

/** The protocol's name of a contract's element type; its own where the protocol, or the runtime, has none. */
export const datatypeOf = (dtype: string): string => NAMES.get(dtype) ?? dtype.toUpperCase();

/** `FP32[-1, 784]`. */
export const showSpec = ({ dtype, dims }: TensorSpec): string => `${datatypeOf(dtype)}[${dims.join(', ')}]`;

export function datatype(name: string, of: string): Datatype & { array: new (length: number) => TensorData } {
  const known = Object.hasOwn(DATATYPES, name) ? DATATYPES[name] : undefined;
  const kind = known && elementKind(known.dtype);
  if (known === undefined || kind === undefined) {
    throw new ServingError(
      'wrong-input',
      `${of} has datatype ${quoted(name)}; this server takes ${Object.keys(DATATYPES).join(', ')}`,
    );
  }
  return { ...known, array: kind.array };
}

/** Values from a JSON array, flat or nested as the shape says. */
export function valuesFromJson(json: unknown, name: string, shape: readonly number[], of: string): TensorData {
  const { array, range, contents } = datatype(name, of);
  const count = elementsOf(shape);
  if (!Array.isArray(json))
    throw new ServingError('wrong-input', `the data of ${of} is no array: give its ${count} values`);
  const flat = json.some(Array.isArray) ? flattened(json, shape, of) : json;
  if (flat.length !== count) {
    throw new ServingError(
      'wrong-input',
      `${of} has ${flat.length} values, and shape [${shape.join(', ')}] holds ${count}`,
    );
  }
  const data = new array(count);
  const refuse = (value: unknown, index: number, wants: string): never => {
    throw new ServingError('wrong-input', `value ${index} of ${of} is ${shown(value)}; ${name} takes ${wants}`);
  };
  if (Array.isArray(data)) {
    flat.forEach((value, index) => {
      if (typeof value !== 'string') refuse(value, index, 'texts');
      data[index] = value as string;
    });
  } else if (contents === 'boolContents') {
    flat.forEach((value, index) => {
      if (typeof value !== 'boolean' && value !== 0 && value !== 1) refuse(value, index, 'true or false');
      data[index] = value ? 1 : 0;
    });
  } else if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    const [min] = range as [bigint, bigint];
    flat.forEach((value: unknown, index) => {
      // JSON numbers are doubles here: beyond 2^53 one would come out as another.
      if (typeof value !== 'number' || !Number.isSafeInteger(value) || BigInt(value) < min) {
        refuse(value, index, 'whole numbers in its range up to 2^53, and larger ones only as binary data');
      }
      data[index] = BigInt(value as number);
    });
  } else if (range !== undefined) {
    const [min, max] = range as [number, number];
    flat.forEach((value: unknown, index) => {
      if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
        refuse(value, index, `whole numbers from ${min} to ${max}`);
      }
      (data as Int32Array)[index] = value as number;
    });
  } else {
    const numbers = data as Float32Array;
    flat.forEach((value: unknown, index) => {
      if (typeof value !== 'number') refuse(value, index, 'numbers');
      numbers[index] = value as number;
      const isInside = name !== 'FP16' || Math.abs(numbers[index]!) < HALF_END;
      if (!Number.isFinite(numbers[index]) || !isInside) refuse(value, index, 'finite numbers within its range');
    });
  }
  return data;
}

/** Little-endian values without gaps, copied so that they stand alone and aligned. */
export function valuesFromBytes(bytes: Uint8Array, name: string, shape: readonly number[], of: string): TensorData {
  const { array, contents } = datatype(name, of);
  const count = elementsOf(shape);
  if (name === 'BYTES') return textsFromBytes(bytes, count, of);
  const data = name === 'FP16' ? new Uint16Array() : (new array(0) as TypedArray);
  const wanted = count * data.BYTES_PER_ELEMENT;
  if (bytes.length !== wanted) {
    throw new ServingError(
      'wrong-input',
      `${of} has ${bytes.length} bytes of data, and ${name} of shape [${shape.join(', ')}] takes ${wanted}`,
    );
  }
  if (contents === 'boolContents' && bytes.some((byte) => byte > 1)) {
    throw new ServingError('wrong-input', `${of} is BOOL and holds a byte other than 0 and 1`);
  }
  // Not by slice: that of a Buffer is a view, onto memory that others share.
  const copy = new Uint8Array(bytes).buffer;
  if (name === 'FP16') return Float32Array.from(new Uint16Array(copy), float16Value);
  return new (array as unknown as new (buffer: ArrayBuffer) => TypedArray)(copy);
}

/** Each text as its length in four bytes, little-endian, and its bytes. */
function textsFromBytes(bytes: Uint8Array, count: number, of: string): string[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const texts: string[] = [];
  let at = 0;
  while (at < bytes.length && texts.length <= count) {
    const end = at + 4 + (at + 4 <= bytes.length ? view.getUint32(at, true) : bytes.length);
    if (end > bytes.length) {
      throw new ServingError(
        'wrong-input',
        `${of} is cut short within value ${texts.length}: give the length of each text in 4 bytes, and its bytes`,
      );
    }
    texts.push(textFrom(bytes.subarray(at + 4, end), texts.length, of));
    at = end;
  }
  if (texts.length === count) return texts;
  throw new ServingError(
    'wrong-input',
    `${of} has ${texts.length > count ? `over ${count}` : texts.length} texts, and its shape holds ${count}`,
  );
}

export function textFrom(bytes: Uint8Array, index: number, of: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ServingError('wrong-input', `value ${index} of ${of} is no UTF-8 text, which is what the model takes`);
  }
}

/** Values as the protocol's bytes, the other way. */
export function bytesOf({ datatype: name, data }: WireTensor): Uint8Array {
  if (!ArrayBuffer.isView(data)) return bytesOfTexts(data);
  const own = name === 'FP16' ? Uint16Array.from(data as Float32Array, float16Bits) : data;
  return new Uint8Array(own.buffer, own.byteOffset, own.byteLength);
}

function bytesOfTexts(texts: readonly string[]): Uint8Array {
  return Buffer.concat(
    texts.flatMap((text) => {
      const bytes = Buffer.from(text);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [length, bytes];
    }),
  );
}

/** Values as JSON has them. Throws where one is NaN or infinite, which JSON cannot say; `mend` is what the asker can do then. */
export function valuesToJson(
  { datatype: name, data }: WireTensor,
  of: string,
  mend: string,
): (number | boolean | string)[] {
  if (!ArrayBuffer.isView(data)) return data;
  if (name === 'BOOL') return Array.from(data as Uint8Array, (value) => value !== 0);
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    return Array.from(data as BigInt64Array, (value) => {
      const number = Number(value);
      if (Number.isSafeInteger(number)) return number;
      throw new ServingError('not-finite', `${of} is ${value}, beyond what JSON carries exactly: ${mend}`);
    });
  }
  const values = Array.from(data as Float32Array);
  const broken = values.findIndex((value) => !Number.isFinite(value));
  if (broken < 0) return values;
  throw new ServingError(
    'not-finite',
    `value ${broken} of ${of} is ${values[broken]}, which JSON cannot say: give inputs of a usual size, or ${mend}`,
  );
}

export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((size, dim) => size * dim, 1);
}

/** The values of nested arrays that are nested exactly as the shape says. */
function flattened(json: readonly unknown[], shape: readonly number[], of: string): unknown[] {
  let level: readonly unknown[] = [json];
  for (const [axis, wanted] of shape.entries()) {
    const next: unknown[] = [];
    for (const part of level) {
      const length = Array.isArray(part) ? part.length : undefined;
      if (length !== wanted) {
        throw new ServingError(
          'wrong-input',
          `the data of ${of} is not nested as its shape [${shape.join(', ')}]: along axis ${axis} there is ${length === undefined ? 'no array' : `an array of ${length}`}; values may also be given flat`,
        );
      }
      for (const value of part as unknown[]) next.push(value);
    }
    level = next;
  }
  return [...level];
}

function shown(value: unknown): string {
  if (typeof value === 'string') return quoted(value);
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

import { float16Bits } from '@commonweight/core';
import type { ElementType, TypedArray } from '@commonweight/client-sdk';

/** Values as the runtime takes them; halves are held by their bits. */
export type Packed = TypedArray | string[];

interface ElementRow {
  /** In ONNX Runtime's words. */
  type: ElementType;
  make(length: number): Packed;
  /** A value of a source as one of this type; undefined where it is none. */
  from(value: number | bigint | string): number | bigint | string | undefined;
}

const numberOf = (value: number | bigint | string): number | undefined => {
  if (typeof value !== 'string') return Number(value);
  return value.trim() === '' ? undefined : Number(value);
};

const float = (type: ElementType, make: (length: number) => TypedArray, largest: number): ElementRow => ({
  type,
  make,
  from: (value) => {
    const number = numberOf(value);
    return number !== undefined && Math.abs(number) <= largest ? number : undefined;
  },
});

const integer = (type: ElementType, make: (length: number) => TypedArray, least: number, most: number): ElementRow => ({
  type,
  make,
  from: (value) => {
    const number = numberOf(value);
    return Number.isInteger(number) && number! >= least && number! <= most ? number : undefined;
  },
});

const large = (type: ElementType, make: (length: number) => TypedArray, least: bigint, most: bigint): ElementRow => ({
  type,
  make,
  from: (value) => {
    const whole = wholeOf(value);
    return whole !== undefined && whole >= least && whole <= most ? whole : undefined;
  },
});

function wholeOf(value: number | bigint | string): bigint | undefined {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'string')
    return /^\s*[-+]?\d{1,20}\s*$/.test(value) ? BigInt(value.trim().replace(/^\+/, '')) : undefined;
  return Number.isInteger(value) ? BigInt(value) : undefined;
}

const truths: ReadonlyMap<unknown, number> = new Map<unknown, number>([
  ...[0, 0n, 'false', 'False', 'FALSE', '0'].map((value) => [value, 0] as const),
  ...[1, 1n, 'true', 'True', 'TRUE', '1'].map((value) => [value, 1] as const),
]);

/** By the name that a contract has for the type. */
const elements: Readonly<Record<string, ElementRow>> = {
  float: float('float32', (length) => new Float32Array(length), 3.4028235677973366e38),
  double: float('float64', (length) => new Float64Array(length), Number.MAX_VALUE),
  float16: {
    ...float('float16', (length) => new Uint16Array(length), 65519),
    from: (value) => {
      const number = numberOf(value);
      return number !== undefined && Math.abs(number) < 65520 ? float16Bits(number) : undefined;
    },
  },
  int8: integer('int8', (length) => new Int8Array(length), -128, 127),
  int16: integer('int16', (length) => new Int16Array(length), -32768, 32767),
  int32: integer('int32', (length) => new Int32Array(length), -(2 ** 31), 2 ** 31 - 1),
  int64: large('int64', (length) => new BigInt64Array(length), -(2n ** 63n), 2n ** 63n - 1n),
  uint8: integer('uint8', (length) => new Uint8Array(length), 0, 255),
  uint16: integer('uint16', (length) => new Uint16Array(length), 0, 65535),
  uint32: integer('uint32', (length) => new Uint32Array(length), 0, 2 ** 32 - 1),
  uint64: large('uint64', (length) => new BigUint64Array(length), 0n, 2n ** 64n - 1n),
  bool: { type: 'bool', make: (length) => new Uint8Array(length), from: (value) => truths.get(value) },
  string: {
    type: 'string',
    make: (length) => new Array<string>(length).fill(''),
    from: (value) => (typeof value === 'string' ? value : undefined),
  },
};

export const elementOf = (dtype: string): ElementRow | undefined =>
  Object.hasOwn(elements, dtype) ? elements[dtype] : undefined;

/** Whether whole numbers are asked for, so that pixels stay from 0 to 255. */
export const isFloating = (dtype: string): boolean => ['float', 'double', 'float16'].includes(dtype);

import type { RandomStream } from '../random/stream.ts';
import { float32 } from './float32.ts';
import type { GridSpec } from './grid.ts';
import { mxint4, mxint8 } from './mxint.ts';
import { topK } from './top-k.ts';

/** How single values are put into bytes. */
export type ValueEncodingName = 'float32' | 'mxint8' | 'mxint4';

/** How a parameter vector is: all of its values, or only the largest of them. */
export type EncodingName = ValueEncodingName | `topk-${ValueEncodingName}`;

/** A payload that is read where it is kept, since it may be as large as the model. */
export interface StoredPayload {
  /** Of the whole. */
  bytes: number;
  /** Fills `into` with the bytes from an offset on. */
  read(into: Uint8Array, offset: number): void;
}

/** Values `start` (a multiple of 32) to `end` (without) of a payload. */
export type ReadValues = (start: number, end: number) => Float32Array;

/** How a parameter vector is put into bytes. Every decoded value is an integer times the grid's step. */
export interface Encoding {
  name: EncodingName;
  /** The encoding of the values that are sent: of all of them, or of the largest alone. */
  values: ValueEncodingName;
  sends: 'all' | 'largest';
  /** Bytes that a payload of `length` values may have where at most the share `topK` of them is sent. */
  bytesMin(length: number): number;
  bytesMax(length: number, topK: number): number;
  /**
   * Rounds stochastically (hence without bias) onto the grid; values beyond the grid's cap are clipped to it. Of an encoding that sends the
   * largest alone, `topK` is their share.
   */
  encode(values: Float32Array, grid: GridSpec, random: RandomStream, topK?: number): Uint8Array;
  /** Throws CodecError where the payload is none of `length` values. */
  decode(payload: Uint8Array, length: number, grid: GridSpec): Float32Array;
  /** Reads a payload range by range. Throws CodecError, as what it gives does, where the payload is none of `length` values. */
  open(payload: StoredPayload, length: number, grid: GridSpec): ReadValues;
}

/** An encoding of all values, each in the same number of bits: the payload is the exponents that values share, then the values. */
export interface ValueEncoding extends Encoding {
  name: ValueEncodingName;
  byteLength(length: number): number;
  exponentBytes(length: number): number;
}

export const valueEncodings: Record<ValueEncodingName, ValueEncoding> = { float32, mxint8, mxint4 };

export const encodings: Record<EncodingName, Encoding> = {
  ...valueEncodings,
  'topk-float32': topK(float32),
  'topk-mxint8': topK(mxint8),
  'topk-mxint4': topK(mxint4),
};

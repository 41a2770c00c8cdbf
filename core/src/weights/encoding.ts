import type { RandomStream } from '../random/stream.ts';
import { float32 } from './float32.ts';
import type { GridSpec } from './grid.ts';
import { mxint4, mxint8 } from './mxint.ts';

export type EncodingName = 'float32' | 'mxint8' | 'mxint4';

/** A range of bytes, without its end. */
export interface BytePart {
  start: number;
  end: number;
}

/** How a parameter vector is put into bytes. Every decoded value is an integer times the grid's step. */
export interface Encoding {
  name: EncodingName;
  /** Bytes of a payload of `length` values. */
  byteLength(length: number): number;
  /**
   * Where in a payload of `length` values those from `start` (a multiple of 32) to `end` stand: these bytes, one part after the other,
   * are the payload of just these values.
   */
  partsOf(length: number, start: number, end: number): readonly BytePart[];
  /** Rounds stochastically (hence without bias) onto the grid; values beyond the grid's cap are clipped to it. */
  encode(values: Float32Array, grid: GridSpec, random: RandomStream): Uint8Array;
  /** Throws CodecError where the payload has not the size of `length` values. */
  decode(payload: Uint8Array, length: number, grid: GridSpec): Float32Array;
}

export const encodings: Record<EncodingName, Encoding> = { float32, mxint8, mxint4 };

/**
 * Encodes a delta and what earlier encodings left over; gives the payload and what this one leaves over.
 * Source: Seide et al. 2014, "1-bit stochastic gradient descent" (error feedback).
 */
export function encodeWithFeedback(input: {
  delta: Float32Array;
  residual: Float32Array | undefined;
  encoding: Encoding;
  grid: GridSpec;
  random: RandomStream;
}): { payload: Uint8Array; residual: Float32Array } {
  const { delta, residual, encoding, grid, random } = input;
  const wanted = residual === undefined ? delta : delta.map((value, i) => value + (residual[i] ?? 0));
  const payload = encoding.encode(wanted, grid, random);
  const sent = encoding.decode(payload, wanted.length, grid);
  // What is not finite is not carried on: it would spoil every later update of the agent.
  const leftOver = (value: number, i: number): number => finiteOr0(value - (sent[i] ?? 0));
  return { payload, residual: wanted.map(leftOver) };
}

const finiteOr0 = (value: number): number => (Number.isFinite(value) ? value : 0);

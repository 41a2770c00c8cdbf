import type { RandomStream } from '../random/stream.ts';
import { encodings, type EncodingName, type ValueEncodingName } from './encoding.ts';
import type { GridSpec } from './grid.ts';
import { rotate, rotatedLength, turnBack } from './rotation.ts';

/** How the updates of a task travel: what agents and coordinator have to agree on besides the grid. */
export interface UpdateFormat {
  encoding: EncodingName;
  /** The largest share of the values that an update sends; 1 is all. */
  topK: number;
  /** Where updates are turned before they are encoded: what the turn follows from, the same for all that go into one sum. */
  rotationSeed?: bigint;
  /** Payloads may be compressed, where that makes them smaller. */
  compression?: 'zstd';
}

/** What of a format a person chooses. */
export interface FormatChoice {
  /** How single values are encoded. */
  encoding: ValueEncodingName;
  /** Only this share of the values is sent, the largest; the rest stays on the agent until it is among them. */
  topK?: number;
  /** Turns updates at random before they are encoded, so that no value stands out of its block. */
  rotate?: true;
  /** Whether payloads may be compressed. */
  compression: 'zstd' | 'none';
}

/** The format of a choice; chance follows from the task's seed. */
export function formatOf(choice: FormatChoice & { seed: number }): UpdateFormat {
  const { encoding, topK, compression, seed } = choice;
  return {
    ...(topK === undefined ? { encoding, topK: 1 } : { encoding: `topk-${encoding}`, topK }),
    ...(choice.rotate === true ? { rotationSeed: BigInt(seed) } : {}),
    ...(compression === 'none' ? {} : { compression }),
  };
}

/** Values of an update on the wire, and in the sum, of one that has `length`. */
export const sentLength = ({ rotationSeed }: UpdateFormat, length: number): number =>
  rotationSeed === undefined ? length : rotatedLength(length);

/** The payload of an update's values. */
export function encodeUpdate(
  values: Float32Array,
  { encoding, topK, rotationSeed }: UpdateFormat,
  grid: GridSpec,
  random: RandomStream,
): Uint8Array {
  const sent = rotationSeed === undefined ? values : rotate(values, rotationSeed);
  return encodings[encoding].encode(sent, grid, random, topK);
}

/** The `length` values of an update. Throws CodecError where the payload is none of so many. */
export function decodeUpdate(payload: Uint8Array, format: UpdateFormat, length: number, grid: GridSpec): Float32Array {
  const sent = encodings[format.encoding].decode(payload, sentLength(format, length), grid);
  return meantBy(sent, format, length);
}

/** The `length` values that values on the wire stand for, or a mean of several that one format was used for. */
export const meantBy = (sent: Float32Array, { rotationSeed }: UpdateFormat, length: number): Float32Array =>
  rotationSeed === undefined ? sent : turnBack(sent, length, rotationSeed);

/**
 * Encodes a delta and what earlier encodings left over; gives the payload and what this one leaves over.
 * Source: Seide et al. 2014, "1-bit stochastic gradient descent" (error feedback); Stich et al. 2018, "Sparsified SGD with Memory", for the
 * largest values alone.
 */
export function encodeWithFeedback(input: {
  delta: Float32Array;
  residual: Float32Array | undefined;
  format: UpdateFormat;
  grid: GridSpec;
  random: RandomStream;
}): { payload: Uint8Array; residual: Float32Array } {
  const { delta, residual, format, grid, random } = input;
  const wanted = residual === undefined ? delta : delta.map((value, i) => value + (residual[i] ?? 0));
  const payload = encodeUpdate(wanted, format, grid, random);
  const sent = decodeUpdate(payload, format, wanted.length, grid);
  // What is not finite is not carried on: it would spoil every later update of the agent.
  const leftOver = (value: number, i: number): number => finiteOr0(value - (sent[i] ?? 0));
  return { payload, residual: wanted.map(leftOver) };
}

const finiteOr0 = (value: number): number => (Number.isFinite(value) ? value : 0);

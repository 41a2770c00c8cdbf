/**
 * The step from one version to the next as whole numbers times one power of two: new = old + k·2^exponent, in float64, rounded to float32
 * once. Whoever has the one makes the very bytes of the other, on every machine that follows IEEE 754.
 */
import { CodecError } from '../errors.ts';
import { decodeNumbers, encodeNumbers, ENTROPY_BLOCK } from './entropy.ts';

/** A step, without the weights. */
export interface Step {
  exponent: number;
  /** One whole number a weight, above -2^30 and below 2^30. */
  numbers: Int32Array;
}

/** "cwst", read as a little-endian number. */
const MAGIC = 0x74737763;
const HEADER_BYTES = 10;
/** Beyond those of float32, whose smallest number is 2^-149. */
const EXPONENT_MAX = 160;

/** The bytes of a step: magic, length (32 bits), exponent (16 bits, signed), then the numbers by their entropy, 16,384 at a time. */
export function encodeStep({ exponent, numbers }: Step): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, numbers.length, true);
  view.setInt16(8, exponent, true);
  const parts: Uint8Array[] = [header];
  for (let start = 0; start < numbers.length; start += ENTROPY_BLOCK) {
    parts.push(encodeNumbers(numbers.subarray(start, start + ENTROPY_BLOCK)));
  }
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/**
 * Makes the weights that the bytes of a step lead to, a block at a time, so that who has other things to do can do them in between. Throws
 * CodecError where the bytes are no step of so many weights.
 */
export function* stepping(weights: Float32Array, bytes: Uint8Array): Generator<void, Float32Array> {
  const size = 2 ** exponentIn(bytes, weights.length);
  const next = new Float32Array(weights.length);
  const block = new Int32Array(ENTROPY_BLOCK);
  let at = HEADER_BYTES;
  for (let start = 0; start < weights.length; start += ENTROPY_BLOCK) {
    const numbers = block.subarray(0, weights.length - start);
    at = decodeNumbers(bytes, at, numbers);
    for (let i = 0; i < numbers.length; i++) next[start + i] = (weights[start + i] ?? 0) + (numbers[i] ?? 0) * size;
    yield;
  }
  if (at !== bytes.length) throw new CodecError('a step is longer than its numbers');
  return next;
}

/** The same in one go. */
export function stepped(weights: Float32Array, bytes: Uint8Array): Float32Array {
  const making = stepping(weights, bytes);
  for (;;) {
    const { done, value } = making.next();
    if (done === true) return value;
  }
}

function exponentIn(bytes: Uint8Array, length: number): number {
  if (bytes.length < HEADER_BYTES) throw new CodecError('a step is shorter than its header');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MAGIC) throw new CodecError('these bytes are no step');
  if (view.getUint32(4, true) !== length) {
    throw new CodecError(`a step of ${view.getUint32(4, true)} weights does not fit ${length}`);
  }
  const exponent = view.getInt16(8, true);
  if (Math.abs(exponent) > EXPONENT_MAX) throw new CodecError('a step has an exponent that no weight has');
  return exponent;
}

import { CodecError } from '../errors.ts';

/** The parameters as little-endian float32 bytes: a view, not a copy. */
export function weightsToBytes(weights: Float32Array): Uint8Array {
  return new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength);
}

/** The parameters of little-endian float32 bytes, in memory of their own: a view would pin the message and may be unaligned. */
export function weightsFromBytes(bytes: Uint8Array): Float32Array {
  if (bytes.length % 4 !== 0) throw new CodecError(`weights of ${bytes.length} bytes are not whole float32 values`);
  // `slice` of a Buffer would be a view of the whole message.
  return new Float32Array(new Uint8Array(bytes).buffer);
}

import { CodecError } from '../errors.ts';

/** What stands before the integers of a partial sum (ExactSum.toBytes). */
const HEADER_BYTES = 32;

/**
 * A partial sum in an order that compresses well, of the same size: its header as it is, then of each 64-bit integer, its sign in the lowest
 * bit, first all lowest bytes, then all second ones, and so on. Sums fill few of their bits, so most planes are zeros or nearly so.
 */
export function toPlanes(sum: Uint8Array): Uint8Array {
  const count = countOf(sum);
  const planes = new Uint8Array(sum.length);
  planes.set(sum.subarray(0, HEADER_BYTES));
  const view = new DataView(sum.buffer, sum.byteOffset, sum.byteLength);
  for (let i = 0; i < count; i++) {
    const low = view.getInt32(HEADER_BYTES + 8 * i, true);
    const high = view.getInt32(HEADER_BYTES + 8 * i + 4, true);
    const sign = high >> 31;
    const [first, second] = [(low << 1) ^ sign, ((high << 1) | (low >>> 31)) ^ sign];
    for (let plane = 0; plane < 4; plane++) {
      planes[HEADER_BYTES + plane * count + i] = first >>> (8 * plane);
      planes[HEADER_BYTES + (plane + 4) * count + i] = second >>> (8 * plane);
    }
  }
  return planes;
}

/** The partial sum again. Throws CodecError where the bytes cannot be one. */
export function fromPlanes(planes: Uint8Array): Uint8Array {
  const count = countOf(planes);
  const sum = new Uint8Array(planes.length);
  sum.set(planes.subarray(0, HEADER_BYTES));
  const view = new DataView(sum.buffer);
  for (let i = 0; i < count; i++) {
    let [first, second] = [0, 0];
    for (let plane = 0; plane < 4; plane++) {
      first |= planes[HEADER_BYTES + plane * count + i]! << (8 * plane);
      second |= planes[HEADER_BYTES + (plane + 4) * count + i]! << (8 * plane);
    }
    const sign = -(first & 1);
    view.setInt32(HEADER_BYTES + 8 * i, ((first >>> 1) | (second << 31)) ^ sign, true);
    view.setInt32(HEADER_BYTES + 8 * i + 4, (second >>> 1) ^ sign, true);
  }
  return sum;
}

function countOf({ length }: Uint8Array): number {
  const bytes = length - HEADER_BYTES;
  if (bytes < 0 || bytes % 8 !== 0) throw new CodecError(`a partial sum has another size than ${length} bytes`);
  return bytes / 8;
}

/** Bytes of a partial sum of so many values. */
export const sumBytes = (length: number): number => HEADER_BYTES + 8 * length;

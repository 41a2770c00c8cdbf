/**
 * Which values of a block are there, as bytes: gaps or a bitmap, whichever is shorter. A gap is the number of values left out since the
 * one before; the byte 255 stands for 255 left out and nothing after them. In a bitmap the lowest bit of a byte comes first.
 */

/** Left out by a byte that names no value. */
const SKIP = 255;

const bitmapBytes = (length: number): number => Math.ceil(length / 8);

/** Bytes that the positions of `count` values among `length` may take. */
export const positionBytesMax = (length: number, count: number): number =>
  Math.min(bitmapBytes(length), count + Math.floor(length / SKIP));

/** The bytes of ascending positions within a block of `length` values. */
export function writePositions(positions: Uint16Array, length: number): Uint8Array {
  const gaps = gapBytes(positions);
  return gaps < bitmapBytes(length) ? writeGaps(positions, gaps) : writeBitmap(positions, length);
}

function gapBytes(positions: Uint16Array): number {
  let [bytes, next] = [positions.length, 0];
  for (const position of positions) {
    bytes += Math.floor((position - next) / SKIP);
    next = position + 1;
  }
  return bytes;
}

function writeGaps(positions: Uint16Array, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let [used, next] = [0, 0];
  for (const position of positions) {
    let gap = position - next;
    for (; gap >= SKIP; gap -= SKIP) bytes[used++] = SKIP;
    bytes[used++] = gap;
    next = position + 1;
  }
  return bytes;
}

function writeBitmap(positions: Uint16Array, length: number): Uint8Array {
  const bytes = new Uint8Array(bitmapBytes(length));
  for (const position of positions) bytes[position >>> 3] = (bytes[position >>> 3] ?? 0) | (1 << (position & 7));
  return bytes;
}

/**
 * Writes the positions that the bytes name into `into`; gives how many they are, or -1 where the bytes are none of a block of `length`
 * values: too many, beyond its end, or without a value at theirs. They come out ascending in any case.
 */
export function readPositions(bytes: Uint8Array, length: number, into: Uint16Array): number {
  if (bytes.length > bitmapBytes(length)) return -1;
  return bytes.length === bitmapBytes(length) ? readBitmap(bytes, length, into) : readGaps(bytes, length, into);
}

function readBitmap(bytes: Uint8Array, length: number, into: Uint16Array): number {
  let count = 0;
  for (let at = 0; at < bytes.length; at++) {
    for (let bits = bytes[at] ?? 0; bits !== 0; bits &= bits - 1) {
      into[count++] = 8 * at + 31 - Math.clz32(bits & -bits);
    }
  }
  return count > 0 && (into[count - 1] ?? 0) >= length ? -1 : count;
}

function readGaps(bytes: Uint8Array, length: number, into: Uint16Array): number {
  let count = 0;
  let next = 0;
  for (const gap of bytes) {
    next += gap;
    if (gap === SKIP) continue;
    if (next >= length) return -1;
    into[count++] = next++;
  }
  return bytes.at(-1) === SKIP ? -1 : count;
}

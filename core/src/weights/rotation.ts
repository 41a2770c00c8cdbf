import { seeded } from '../random/stream.ts';

/** Values that are rotated together; the rest of a vector is filled up with zeros to a power of two. */
const BLOCK = 1024;
const BLOCK_MIN = 32;

/** Values of a vector of `length` once it is rotated. */
export function rotatedLength(length: number): number {
  const whole = Math.floor(length / BLOCK) * BLOCK;
  return length === whole ? length : whole + powerOfTwoFrom(length - whole);
}

/**
 * A vector turned by a randomised Hadamard transform, block by block: y = H·D·x, with D a diagonal of signs that follow from the seed. A large
 * value is spread over its block, so that few bits do for all of them. It keeps lengths, but for a factor of √2 of a last block whose size
 * is an odd power of two. Every factor is a power of two, and the sums of a block are in float64 in one order, so that the same vector
 * gives the same bytes everywhere. Source: Suresh et al. 2017, "Distributed Mean Estimation with Limited Communication", section 3.
 */
export function rotate(values: Float32Array, seed: bigint): Float32Array {
  const rotated = new Float32Array(rotatedLength(values.length));
  const sign = signsOf(seed);
  eachBlock(rotated.length, (start, size) => {
    const block = new Float64Array(size);
    for (let i = 0; i < size; i++) block[i] = (values[start + i] ?? 0) * sign();
    transform(block);
    const scale = 2 ** -Math.ceil(exponentOf(size) / 2);
    for (let i = 0; i < size; i++) rotated[start + i] = (block[i] ?? 0) * scale;
  });
  return rotated;
}

/** The vector of `length` values that was rotated, or the mean of several: turning is linear. */
export function turnBack(rotated: Float32Array, length: number, seed: bigint): Float32Array {
  const values = new Float32Array(length);
  const sign = signsOf(seed);
  eachBlock(rotated.length, (start, size) => {
    const block = Float64Array.from(rotated.subarray(start, start + size));
    transform(block);
    const scale = 2 ** -Math.floor(exponentOf(size) / 2);
    for (let i = 0; i < size; i++) {
      const value = (block[i] ?? 0) * scale * sign();
      if (start + i < length) values[start + i] = value;
    }
  });
  return values;
}

function eachBlock(length: number, visit: (start: number, size: number) => void): void {
  for (let start = 0; start < length; start += BLOCK) visit(start, Math.min(BLOCK, length - start));
}

/** The Walsh-Hadamard transform without a factor, in place: twice is the block times its size. */
function transform(block: Float64Array): void {
  for (let half = 1; half < block.length; half *= 2) {
    for (let start = 0; start < block.length; start += 2 * half) {
      for (let i = start; i < start + half; i++) {
        const a = block[i] ?? 0;
        const b = block[i + half] ?? 0;
        block[i] = a + b;
        block[i + half] = a - b;
      }
    }
  }
}

/** 1 and -1 by chance, 32 of a draw. */
function signsOf(seed: bigint): () => number {
  const random = seeded(seed).fork('rotation');
  let bits = 0;
  let left = 0;
  return () => {
    if (left === 0) {
      bits = random.bits();
      left = 32;
    }
    left--;
    return (bits >>> left) & 1 ? -1 : 1;
  };
}

/** Of a power of two. */
const exponentOf = (size: number): number => 31 - Math.clz32(size);

const powerOfTwoFrom = (length: number): number => Math.max(BLOCK_MIN, 2 ** (32 - Math.clz32(length - 1)));

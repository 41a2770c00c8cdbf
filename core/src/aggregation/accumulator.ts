import { SPARSE_BLOCK } from '../weights/sparse-frame.ts';

/**
 * Int64 accumulators and what can be done to a range of them. Two implementations agree bit for bit: the WebAssembly
 * kernels, and a plain twin that is their oracle and runs where SIMD is missing.
 */
export interface Accumulator {
  readonly length: number;
  /** The accumulators as little-endian int64, low word first. */
  readonly words: Int32Array;
  /** The largest |value| of float32 bytes as unsigned bits; infinities and NaN lie above every number. */
  largestMagnitude(values: Uint8Array): number;
  /** Adds weight × round-half-even(value × scale) from index `start` on; each term is at most 2^51. */
  foldFloat32(start: number, values: Uint8Array, scale: number, weight: number): void;
  /** Adds (weight × element) << (exponent + shiftBase) from index `start` (a multiple of 32) on. */
  foldMxint8(start: number, exponents: Uint8Array, elements: Uint8Array, weight: number, shiftBase: number): void;
  /**
   * The same for `count` elements of four bits, two a byte: each counts 16 times, so that the element of eight bits with its bits in the
   * upper half has its value.
   */
  foldMxint4(
    start: number,
    count: number,
    exponents: Uint8Array,
    halves: Uint8Array,
    weight: number,
    shiftBase: number,
  ): void;
  /** The same where only the values at these positions, counted from `start` on, are there. */
  foldSparseFloat32(start: number, positions: Uint16Array, values: Uint8Array, scale: number, weight: number): void;
  foldSparseMxint8(
    start: number,
    positions: Uint16Array,
    exponents: Uint8Array,
    elements: Uint8Array,
    weight: number,
    shiftBase: number,
  ): void;
  foldSparseMxint4(
    start: number,
    positions: Uint16Array,
    exponents: Uint8Array,
    halves: Uint8Array,
    weight: number,
    shiftBase: number,
  ): void;
  /** Adds accumulators of another sum from index `start` on. */
  foldSums(start: number, sums: Uint8Array): void;
}

/** Values folded in one go: their accumulators (64 KiB) stay in the cache while several updates pass. A block of a sparse update has as many. */
export const FOLD_VALUES: typeof SPARSE_BLOCK = SPARSE_BLOCK;

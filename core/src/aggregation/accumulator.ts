import { SPARSE_BLOCK } from '../weights/sparse-frame.ts';

/**
 * Int64 accumulators and what can be done to a range of them. Two implementations agree bit for bit: the WebAssembly
 * kernels, and a plain twin that is their oracle and runs where SIMD is missing.
 *
 * Blocks of several updates are put into places first and then folded together, so that the accumulators are read and written once for all of
 * them. Weights of one fold are such that no sum of their terms leaves 2^51.
 */
export interface Accumulator {
  readonly length: number;
  /** The accumulators as little-endian int64, low word first. */
  readonly words: Int32Array;
  /** The largest |value| of float32 bytes as unsigned bits; infinities and NaN lie above every number. */
  largestMagnitude(values: Uint8Array): number;
  /** The largest of exponent bytes, and 256 times the smallest. */
  exponentRange(exponents: Uint8Array): number;
  /** Puts a block into a place, and gives its largestMagnitude. */
  placeFloat32(place: number, values: Uint8Array): number;
  /** Puts a block into a place, and gives its exponentRange. */
  placeMxint8(place: number, exponents: Uint8Array, elements: Uint8Array): number;
  /** The same for elements of four bits, two a byte: each counts 16 times, so that the element of eight bits with its bits in the upper half has its value. */
  placeMxint4(place: number, count: number, exponents: Uint8Array, halves: Uint8Array): number;
  /** Adds weight × round-half-even(value × scale) of the blocks in the first places, one for each weight, from index `start` on. */
  foldFloat32(start: number, count: number, scale: number, weights: readonly number[]): void;
  /** Adds weight × element × 2^(exponent + shiftBase) of the blocks in the first places; `start` is a multiple of 32. */
  foldMxint(start: number, count: number, shiftBase: number, weights: readonly number[]): void;
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
  /** Each accumulator rounded once to float64, divided by the total, multiplied by the step (a power of two), and rounded to float32. */
  means(start: number, into: Float32Array, total: number, step: number): void;
}

/** Values folded in one go: their accumulators (64 KiB) stay in the cache while several updates pass. A block of a sparse update has as many. */
export const FOLD_VALUES: typeof SPARSE_BLOCK = SPARSE_BLOCK;
/** Blocks that are folded together. */
export const PLACES = 4;

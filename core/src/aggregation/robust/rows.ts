/**
 * A block of several updates side by side: `count` rows, one an update, of `width` float32 values. Two implementations agree bit for
 * bit: the WebAssembly kernels, and a plain twin that is their oracle and runs where SIMD is missing.
 */
export interface Rows {
  readonly count: number;
  /** A multiple of four. */
  readonly width: number;
  /** Row after row. Columns that a block does not fill are 0 in every row. */
  readonly values: Float32Array;
  /** Sorts each column ascending; -0 stands below 0. */
  sortColumns(): void;
  /** Adds to the matrix of `count` x `count` the squared distance of each pair of rows (i, j > i). */
  addSquaredDistances(): void;
  /** The matrix that addSquaredDistances adds to. */
  readonly squaredDistances: Float64Array;
}

/**
 * Pairs of rows that sort as many: exchanging each pair in turn so that the first is the smaller one. Source: Batcher 1968, "Sorting
 * networks and their applications" (odd-even merge sort).
 */
export function sortingNetwork(count: number): Int32Array {
  const pairs: number[] = [];
  for (let p = 1; p < count; p *= 2) {
    for (let k = p; k >= 1; k /= 2) {
      for (let j = k % p; j + k < count; j += 2 * k) {
        for (let i = j; i < Math.min(j + k, count - k); i++) {
          if (Math.floor(i / (2 * p)) === Math.floor((i + k) / (2 * p))) pairs.push(i, i + k);
        }
      }
    }
  }
  return Int32Array.from(pairs);
}

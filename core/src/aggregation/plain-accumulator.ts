import type { Accumulator } from './accumulator.ts';

const WORD = 2 ** 32;
/** 1.5 × 2^52: adding and taking it away rounds a float64 to the nearest integer, ties to even. */
const MAGIC = 1.5 * 2 ** 52;

/** The accumulators in plain TypeScript. */
export function plainAccumulator(length: number): Accumulator {
  const words = new Int32Array(2 * length);
  const add = (index: number, term: number): void => {
    const termHigh = Math.floor(term / WORD);
    const low = ((words[2 * index] ?? 0) >>> 0) + (term - termHigh * WORD);
    words[2 * index] = low;
    words[2 * index + 1] = (words[2 * index + 1] ?? 0) + termHigh + (low >= WORD ? 1 : 0);
  };
  return {
    length,
    words,
    largestMagnitude: (values) => {
      const view = viewOf(values);
      let largest = 0;
      for (let at = 0; at < values.length; at += 4) largest = Math.max(largest, view.getUint32(at, true) & 0x7fffffff);
      return largest;
    },
    foldFloat32: (start, values, scale, weight) => {
      const view = viewOf(values);
      for (let i = 0; i < values.length / 4; i++) {
        add(start + i, (view.getFloat32(4 * i, true) * scale + MAGIC - MAGIC) * weight);
      }
    },
    foldMxint8: (start, exponents, elements, weight, shiftBase) => {
      for (let i = 0; i < elements.length; i++) {
        const scale = 2 ** ((exponents[i >>> 5] ?? 0) + shiftBase);
        add(start + i, (((elements[i] ?? 0) << 24) >> 24) * weight * scale);
      }
    },
    foldMxint4: (start, count, exponents, halves, weight, shiftBase) => {
      for (let i = 0; i < count; i++) {
        const scale = 2 ** ((exponents[i >>> 5] ?? 0) + shiftBase);
        add(start + i, elementOf(halves[i >>> 1] ?? 0, i) * weight * scale);
      }
    },
    foldSparseFloat32: (start, positions, values, scale, weight) => {
      const view = viewOf(values);
      for (const [i, position] of positions.entries()) {
        add(start + position, (view.getFloat32(4 * i, true) * scale + MAGIC - MAGIC) * weight);
      }
    },
    foldSparseMxint8: (start, positions, exponents, elements, weight, shiftBase) => {
      for (const [i, position] of positions.entries()) {
        const scale = 2 ** ((exponents[i >>> 5] ?? 0) + shiftBase);
        add(start + position, (((elements[i] ?? 0) << 24) >> 24) * weight * scale);
      }
    },
    foldSparseMxint4: (start, positions, exponents, halves, weight, shiftBase) => {
      for (const [i, position] of positions.entries()) {
        const scale = 2 ** ((exponents[i >>> 5] ?? 0) + shiftBase);
        add(start + position, elementOf(halves[i >>> 1] ?? 0, i) * weight * scale);
      }
    },
    foldSums: (start, sums) => {
      const view = viewOf(sums);
      for (let i = 0; i < sums.length / 8; i++) {
        const index = start + i;
        const low = ((words[2 * index] ?? 0) >>> 0) + view.getUint32(8 * i, true);
        words[2 * index] = low;
        words[2 * index + 1] = (words[2 * index + 1] ?? 0) + view.getInt32(8 * i + 4, true) + (low >= WORD ? 1 : 0);
      }
    },
  };
}

/** The four bits of an element as the upper half of eight. */
const elementOf = (byte: number, i: number): number => (i % 2 === 0 ? (byte << 28) >> 24 : ((byte & 0xf0) << 24) >> 24);

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

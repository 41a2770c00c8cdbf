import { PLACES, type Accumulator } from './accumulator.ts';

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
  /** What is in each place: values of float32, or an element of eight bits and its exponent for each index. */
  const floats: DataView[] = Array.from({ length: PLACES }, () => new DataView(new ArrayBuffer(0)));
  const blocks: { exponents: Uint8Array; elements: Int8Array }[] = [];
  const largestMagnitude = (values: Uint8Array): number => {
    const view = viewOf(values);
    let largest = 0;
    for (let at = 0; at < values.length; at += 4) largest = Math.max(largest, view.getUint32(at, true) & 0x7fffffff);
    return largest;
  };
  return {
    length,
    words,
    largestMagnitude,
    exponentRange: rangeOf,
    placeFloat32: (place, values) => {
      floats[place] = viewOf(values);
      return largestMagnitude(values);
    },
    placeMxint8: (place, exponents, elements) => {
      blocks[place] = { exponents, elements: Int8Array.from(elements, (byte) => (byte << 24) >> 24) };
      return rangeOf(exponents);
    },
    placeMxint4: (place, count, exponents, halves) => {
      blocks[place] = { exponents, elements: Int8Array.from({ length: count }, (_, i) => elementOf(halves, i)) };
      return rangeOf(exponents);
    },
    foldFloat32: (start, count, scale, weights) => {
      for (const [place, weight] of weights.entries()) {
        for (let i = 0; i < count; i++) {
          add(start + i, ((floats[place]?.getFloat32(4 * i, true) ?? 0) * scale + MAGIC - MAGIC) * weight);
        }
      }
    },
    foldMxint: (start, count, shiftBase, weights) => {
      for (const [place, weight] of weights.entries()) {
        const { exponents, elements } = blocks[place] ?? {};
        for (let i = 0; i < count; i++) {
          const scale = 2 ** ((exponents?.[i >>> 5] ?? 0) + shiftBase);
          add(start + i, (elements?.[i] ?? 0) * weight * scale);
        }
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
        add(start + position, elementOf(halves, i) * weight * scale);
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
    means: (start, into, total, step) => {
      for (let i = 0; i < into.length; i++) {
        const index = 2 * (start + i);
        const sum = (words[index + 1] ?? 0) * WORD + ((words[index] ?? 0) >>> 0);
        into[i] = (sum / total) * step;
      }
    },
  };
}

const rangeOf = (exponents: Uint8Array): number =>
  exponents.reduce((most, exponent) => Math.max(most, exponent), 0) +
  256 * exponents.reduce((least, exponent) => Math.min(least, exponent), 255);

/** Four bits as the upper half of eight, the first in the lower half of a byte. */
function elementOf(halves: Uint8Array, i: number): number {
  const byte = halves[i >>> 1] ?? 0;
  return i % 2 === 0 ? (byte << 28) >> 24 : ((byte & 0xf0) << 24) >> 24;
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

import { FOLD_VALUES, PLACES, type Accumulator } from './accumulator.ts';
import { KERNELS_BASE64 } from './gen/kernels.ts';
import { compiledKernels } from './wasm.ts';

type FoldSparse = (
  sums: number,
  positions: number,
  exponents: number,
  elements: number,
  n: number,
  weight: number,
  shiftBase: number,
) => void;

/** The last numbers are the weights of so many updates in neighbouring places. */
type Fold = (sums: number, place: number, n: number, scaleOrShift: number, ...weights: number[]) => void;

interface Kernels {
  largestMagnitude(source: number, n: number): number;
  foldFloat32: Fold;
  foldFloat32Twice: Fold;
  foldFloat32Thrice: Fold;
  foldFloat32FourTimes: Fold;
  foldMxint: Fold;
  foldMxintTwice: Fold;
  foldMxintThrice: Fold;
  foldMxintFourTimes: Fold;
  exponentRange(source: number, n: number): number;
  spreadHalves(place: number, n: number): void;
  foldSparseFloat32(sums: number, positions: number, source: number, n: number, scale: number, weight: number): void;
  foldSparseMxint8: FoldSparse;
  foldSparseMxint4: FoldSparse;
  foldSums(sums: number, other: number, n: number): void;
  means(sums: number, target: number, n: number, total: number, step: number): void;
}

/** Bytes of a place: a block of float32, or elements, exponents and halves one behind the other. The kernels know these too. */
const PLACE_BYTES = 4 * FOLD_VALUES;
const EXPONENTS_OFFSET = FOLD_VALUES;
const HALVES_OFFSET = 2 * FOLD_VALUES;
/** Before the accumulators are the places, which is also where what is folded alone is put. */
const SCRATCH_BYTES = PLACES * PLACE_BYTES;
/** What is sent of a sparse block: positions of 16 bits, behind them the exponents, and the elements, of at most 4 bytes each. */
const SPARSE_EXPONENTS_OFFSET = 2 * FOLD_VALUES;
const SPARSE_ELEMENTS_OFFSET = SPARSE_EXPONENTS_OFFSET + FOLD_VALUES / 32;

const compiled = compiledKernels<Kernels>(KERNELS_BASE64);

/** The accumulators in WebAssembly memory, or undefined where the platform cannot. */
export function wasmAccumulator(length: number): Accumulator | undefined {
  if (compiled === undefined) return undefined;
  // Means are taken two at a time.
  const { kernels, buffer } = compiled.instance(SCRATCH_BYTES + 8 * (length + 1));
  const bytes = new Uint8Array(buffer);
  const shorts = new Uint16Array(buffer, 0, FOLD_VALUES);
  const floats = new Float32Array(buffer, 0, FOLD_VALUES);
  const sumsAt = (index: number): number => SCRATCH_BYTES + 8 * index;
  const largestMagnitude = (at: number, values: Uint8Array): number => {
    bytes.set(values, at);
    return kernels.largestMagnitude(at, values.length / 4) >>> 0;
  };
  const placeExponents = (place: number, exponents: Uint8Array): number => {
    const at = place * PLACE_BYTES + EXPONENTS_OFFSET;
    bytes.set(exponents, at);
    return kernels.exponentRange(at, exponents.length);
  };
  /** By how many blocks they fold in one pass. */
  const foldsOfFloats = [
    kernels.foldFloat32,
    kernels.foldFloat32Twice,
    kernels.foldFloat32Thrice,
    kernels.foldFloat32FourTimes,
  ];
  const foldsOfBlocks = [
    kernels.foldMxint,
    kernels.foldMxintTwice,
    kernels.foldMxintThrice,
    kernels.foldMxintFourTimes,
  ];
  const fold = (
    folds: readonly Fold[],
    start: number,
    count: number,
    scaleOrShift: number,
    weights: readonly number[],
  ): void => {
    const all = folds[weights.length - 1];
    if (count % 32 === 0 && all !== undefined) return all(sumsAt(start), 0, count, scaleOrShift, ...weights);
    // The last block of a vector may be short: each by itself.
    for (const [place, weight] of weights.entries()) {
      folds[0]?.(sumsAt(start), place * PLACE_BYTES, count, scaleOrShift, weight);
    }
  };
  const foldSparse =
    (fold: FoldSparse): Accumulator['foldSparseMxint8'] =>
    (start, positions, exponents, elements, weight, shiftBase) => {
      shorts.set(positions);
      bytes.set(exponents, SPARSE_EXPONENTS_OFFSET);
      bytes.set(elements, SPARSE_ELEMENTS_OFFSET);
      const count = positions.length;
      fold(sumsAt(start), 0, SPARSE_EXPONENTS_OFFSET, SPARSE_ELEMENTS_OFFSET, count, weight, shiftBase);
    };
  return {
    length,
    words: new Int32Array(buffer, SCRATCH_BYTES, 2 * length),
    largestMagnitude: (values) => largestMagnitude(0, values),
    exponentRange: (exponents) => placeExponents(0, exponents),
    placeFloat32: (place, values) => largestMagnitude(place * PLACE_BYTES, values),
    placeMxint8: (place, exponents, elements) => {
      bytes.set(elements, place * PLACE_BYTES);
      return placeExponents(place, exponents);
    },
    placeMxint4: (place, count, exponents, halves) => {
      bytes.set(halves, place * PLACE_BYTES + HALVES_OFFSET);
      kernels.spreadHalves(place * PLACE_BYTES, count);
      return placeExponents(place, exponents);
    },
    foldFloat32: (start, count, scale, weights) => fold(foldsOfFloats, start, count, scale, weights),
    foldMxint: (start, count, shiftBase, weights) => fold(foldsOfBlocks, start, count, shiftBase, weights),
    foldSparseFloat32: (start, positions, values, scale, weight) => {
      shorts.set(positions);
      bytes.set(values, SPARSE_ELEMENTS_OFFSET);
      kernels.foldSparseFloat32(sumsAt(start), 0, SPARSE_ELEMENTS_OFFSET, positions.length, scale, weight);
    },
    foldSparseMxint8: foldSparse(kernels.foldSparseMxint8),
    foldSparseMxint4: foldSparse(kernels.foldSparseMxint4),
    foldSums: (start, sums) => {
      bytes.set(sums);
      kernels.foldSums(sumsAt(start), 0, sums.length / 8);
    },
    means: (start, into, total, step) => {
      for (let at = 0; at < into.length; at += FOLD_VALUES) {
        const count = Math.min(FOLD_VALUES, into.length - at);
        kernels.means(sumsAt(start + at), 0, count + (count % 2), total, step);
        into.set(floats.subarray(0, count), at);
      }
    },
  };
}

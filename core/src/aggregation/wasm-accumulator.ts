import { FOLD_VALUES, type Accumulator } from './accumulator.ts';
import { KERNELS_BASE64 } from './gen/kernels.ts';
import { compiledKernels } from './wasm.ts';

interface Kernels {
  largestMagnitude(source: number, n: number): number;
  foldFloat32(sums: number, source: number, n: number, scale: number, weight: number): void;
  foldMxint8(sums: number, exponents: number, elements: number, n: number, weight: number, shiftBase: number): void;
  foldMxint4(
    sums: number,
    exponents: number,
    halves: number,
    spread: number,
    n: number,
    weight: number,
    shiftBase: number,
  ): void;
  foldSparseFloat32(sums: number, positions: number, source: number, n: number, scale: number, weight: number): void;
  foldSparseMxint8: FoldSparse;
  foldSparseMxint4: FoldSparse;
  foldSums(sums: number, other: number, n: number): void;
}

type FoldSparse = (
  sums: number,
  positions: number,
  exponents: number,
  elements: number,
  n: number,
  weight: number,
  shiftBase: number,
) => void;

/** A block of an update is copied here before it is folded: at most FOLD_VALUES values of 8 bytes. */
const SCRATCH_BYTES = 8 * FOLD_VALUES;
/** Within the scratch, MXINT8 elements stand behind their exponents. */
const ELEMENTS_OFFSET = FOLD_VALUES / 32;
/** And one block of those of MXINT4, a byte each, behind these. */
const SPREAD_OFFSET = ELEMENTS_OFFSET + FOLD_VALUES / 2;
/** What is sent of a sparse block: positions of 16 bits, behind them the exponents, and the elements, of at most 4 bytes each. */
const SPARSE_EXPONENTS_OFFSET = 2 * FOLD_VALUES;
const SPARSE_ELEMENTS_OFFSET = SPARSE_EXPONENTS_OFFSET + FOLD_VALUES / 32;

const compiled = compiledKernels<Kernels>(KERNELS_BASE64);

/** The accumulators in WebAssembly memory, or undefined where the platform cannot. */
export function wasmAccumulator(length: number): Accumulator | undefined {
  if (compiled === undefined) return undefined;
  const { kernels, buffer } = compiled.instance(SCRATCH_BYTES + 8 * length);
  const bytes = new Uint8Array(buffer);
  const sumsAt = (index: number): number => SCRATCH_BYTES + 8 * index;
  const shorts = new Uint16Array(buffer, 0, FOLD_VALUES);
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
    largestMagnitude: (values) => {
      bytes.set(values);
      return kernels.largestMagnitude(0, values.length / 4) >>> 0;
    },
    foldFloat32: (start, values, scale, weight) => {
      bytes.set(values);
      kernels.foldFloat32(sumsAt(start), 0, values.length / 4, scale, weight);
    },
    foldMxint8: (start, exponents, elements, weight, shiftBase) => {
      bytes.set(exponents);
      bytes.set(elements, ELEMENTS_OFFSET);
      kernels.foldMxint8(sumsAt(start), 0, ELEMENTS_OFFSET, elements.length, weight, shiftBase);
    },
    foldMxint4: (start, count, exponents, halves, weight, shiftBase) => {
      bytes.set(exponents);
      bytes.set(halves, ELEMENTS_OFFSET);
      kernels.foldMxint4(sumsAt(start), 0, ELEMENTS_OFFSET, SPREAD_OFFSET, count, weight, shiftBase);
    },
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
  };
}

import { encodings, valueEncodings, type EncodingName, type ValueEncodingName } from '../weights/encoding.ts';
import type { GridSpec } from '../weights/grid.ts';
import { mxBlocks, MX_BLOCK } from '../weights/mxint.ts';
import type { Accumulator } from './accumulator.ts';
import { sparseFoldable } from './sparse-foldable.ts';
import { faultOfExponents, faultOfFloats, type UpdateFault } from './update-fault.ts';

/** An update whose frame is right, to be folded block by block of FOLD_VALUES values. */
export type Foldable = DenseFoldable | SparseFoldable;

/** All values: blocks of several updates of one kind are folded together. */
export interface DenseFoldable {
  kind: 'float32' | 'mxint';
  /** Puts a block into a place, or says what is wrong with it. */
  place(place: number, start: number, end: number): UpdateFault | undefined;
}

/** Some values, which are folded alone. */
export interface SparseFoldable {
  kind: 'sparse';
  /** What is wrong with a block; asked before it is folded. */
  faultOfBlock(start: number, end: number): UpdateFault | undefined;
  /** Adds the values of a block, `weight` times. */
  fold(start: number, end: number, weight: number): void;
}

/** What an update is folded into. */
export interface Place {
  /** Values of an update. */
  length: number;
  grid: GridSpec;
  sums: Accumulator;
}

/** An update to be folded, or what is wrong with it as far as its frame tells. */
export function foldable(encoding: EncodingName, payload: Uint8Array, place: Place): Foldable | UpdateFault {
  const { sends, values } = encodings[encoding];
  if (sends === 'largest') return sparseFoldable(values, payload, place);
  if (payload.length !== valueEncodings[values].byteLength(place.length)) return 'wrong-size';
  return values === 'float32' ? ofFloats(payload, place) : ofBlocks(values, payload, place);
}

function ofFloats(payload: Uint8Array, { grid, sums }: Place): DenseFoldable {
  const faultOf = faultOfFloats(grid);
  return {
    kind: 'float32',
    place: (place, start, end) => faultOf(sums.placeFloat32(place, payload.subarray(4 * start, 4 * end))),
  };
}

function ofBlocks(
  values: Exclude<ValueEncodingName, 'float32'>,
  payload: Uint8Array,
  { length, grid, sums }: Place,
): DenseFoldable {
  const elements = payload.subarray(mxBlocks(length));
  const faultOf = faultOfExponents(grid);
  return {
    kind: 'mxint',
    place: (place, start, end) => {
      const exponents = payload.subarray(start / MX_BLOCK, mxBlocks(end));
      const range =
        values === 'mxint8'
          ? sums.placeMxint8(place, exponents, elements.subarray(start, end))
          : sums.placeMxint4(place, end - start, exponents, elements.subarray(start / 2, Math.ceil(end / 2)));
      return faultOf(range & 0xff, range >>> 8);
    },
  };
}

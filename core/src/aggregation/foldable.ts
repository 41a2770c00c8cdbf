import { encodings, valueEncodings, type EncodingName, type ValueEncodingName } from '../weights/encoding.ts';
import type { GridSpec } from '../weights/grid.ts';
import { mxBlocks, MX_BLOCK } from '../weights/mxint.ts';
import type { Accumulator } from './accumulator.ts';
import { sparseFoldable } from './sparse-foldable.ts';
import { faultOfExponents, faultOfFloats, shiftBaseOf, type UpdateFault } from './update-fault.ts';

/** An update whose frame is right, to be folded block by block of FOLD_VALUES values. */
export interface Foldable {
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

function ofFloats(payload: Uint8Array, { grid, sums }: Place): Foldable {
  const scale = 2 ** -grid.lsbExponent;
  const within = (start: number, end: number): Uint8Array => payload.subarray(4 * start, 4 * end);
  return {
    faultOfBlock: (start, end) => faultOfFloats(sums.largestMagnitude(within(start, end)), grid),
    fold: (start, end, weight) => sums.foldFloat32(start, within(start, end), scale, weight),
  };
}

function ofBlocks(
  values: Exclude<ValueEncodingName, 'float32'>,
  payload: Uint8Array,
  { length, grid, sums }: Place,
): Foldable | UpdateFault {
  const blocks = mxBlocks(length);
  const fault = faultOfExponents(payload.subarray(0, blocks), grid);
  if (fault !== undefined) return fault;
  const elements = payload.subarray(blocks);
  const shiftBase = shiftBaseOf(grid);
  return {
    faultOfBlock: () => undefined,
    fold: (start, end, weight) => {
      const exponents = payload.subarray(start / MX_BLOCK, mxBlocks(end));
      if (values === 'mxint8') {
        sums.foldMxint8(start, exponents, elements.subarray(start, end), weight, shiftBase);
      } else {
        const halves = elements.subarray(start / 2, Math.ceil(end / 2));
        sums.foldMxint4(start, end - start, exponents, halves, weight, shiftBase);
      }
    },
  };
}

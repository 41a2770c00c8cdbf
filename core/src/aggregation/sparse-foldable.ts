import { valueEncodings, type ValueEncodingName } from '../weights/encoding.ts';
import { readPositions } from '../weights/positions.ts';
import { SPARSE_BLOCK, sparseFrame, TABLE_BYTES, type SparseBlock } from '../weights/sparse-frame.ts';
import { FOLD_VALUES } from './accumulator.ts';
import type { Foldable, Place } from './foldable.ts';
import { faultOfExponents, faultOfFloats, shiftBaseOf, type UpdateFault } from './update-fault.ts';

/** An update of the largest values alone: only these are touched, and nothing of the model's length is made. */
export function sparseFoldable(
  values: ValueEncodingName,
  payload: Uint8Array,
  { length, grid, sums }: Place,
): Foldable | UpdateFault {
  const of = valueEncodings[values];
  const table = payload.subarray(0, TABLE_BYTES * Math.ceil(length / SPARSE_BLOCK));
  const frame = sparseFrame(table, payload.length, length, of);
  if (frame === undefined) return 'wrong-size';
  const fault = faultOfExponents(payload.subarray(frame.exponents.start, frame.exponents.end), grid);
  if (fault !== undefined) return fault;

  const scratch = new Uint16Array(SPARSE_BLOCK);
  const positionsOf = ({ positionsAt, positionBytes }: SparseBlock, width: number): number =>
    readPositions(payload.subarray(positionsAt, positionsAt + positionBytes), width, scratch);
  const elementsOf = ({ count, elementsAt }: SparseBlock): Uint8Array =>
    payload.subarray(elementsAt, elementsAt + of.byteLength(count) - of.exponentBytes(count));
  /** The block whose positions are in `scratch`. */
  let read = -1;
  return {
    faultOfBlock: (start, end) => {
      const block = frame.block(start / FOLD_VALUES);
      read = -1;
      if (positionsOf(block, end - start) !== block.count) return 'wrong-size';
      read = start;
      return values === 'float32' ? faultOfFloats(sums.largestMagnitude(elementsOf(block)), grid) : undefined;
    },
    fold: (start, end, weight) => {
      const block = frame.block(start / FOLD_VALUES);
      if (read !== start) positionsOf(block, end - start);
      read = start;
      const positions = scratch.subarray(0, block.count);
      const elements = elementsOf(block);
      if (values === 'float32') {
        return sums.foldSparseFloat32(start, positions, elements, 2 ** -grid.lsbExponent, weight);
      }
      const exponents = payload.subarray(block.exponentsAt, block.exponentsAt + of.exponentBytes(block.count));
      const fold = values === 'mxint8' ? sums.foldSparseMxint8 : sums.foldSparseMxint4;
      fold(start, positions, exponents, elements, weight, shiftBaseOf(grid));
    },
  };
}

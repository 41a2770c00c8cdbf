import type { ValueEncoding } from './encoding.ts';

/** Values of one block of a payload that sends the largest alone: so many are folded in one go. */
export const SPARSE_BLOCK = 8192;
/** Of the table, for each block: how many values are sent and in how many bytes their positions stand, both 16 bits, little endian. */
export const TABLE_BYTES = 4;

/** Values of a block: the last may have fewer. */
export const blockLengthAt = (length: number, block: number): number =>
  Math.min(SPARSE_BLOCK, length - block * SPARSE_BLOCK);

/** Where the parts of a block stand in the payload. */
export interface SparseBlock {
  /** Values that are sent. */
  count: number;
  positionsAt: number;
  positionBytes: number;
  exponentsAt: number;
  elementsAt: number;
}

/** A payload that sends the largest values alone, as its table says that it is. */
export interface SparseFrame {
  block(block: number): SparseBlock;
  /** Where all exponents stand. */
  exponents: { start: number; end: number };
}

/** Undefined where the table and the size of a payload do not add up, or a block sends more values than it has. */
export function sparseFrame(
  table: Uint8Array,
  payloadBytes: number,
  length: number,
  of: Pick<ValueEncoding, 'byteLength' | 'exponentBytes'>,
): SparseFrame | undefined {
  const blocks = Math.ceil(length / SPARSE_BLOCK);
  if (table.length !== TABLE_BYTES * blocks) return undefined;
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  // Sums over the blocks before each, and over all of them.
  const positions = new Uint32Array(blocks + 1);
  const exponents = new Uint32Array(blocks + 1);
  const elements = new Uint32Array(blocks + 1);
  for (let block = 0; block < blocks; block++) {
    const count = view.getUint16(TABLE_BYTES * block, true);
    if (count > blockLengthAt(length, block)) return undefined;
    const own = of.exponentBytes(count);
    positions[block + 1] = (positions[block] ?? 0) + view.getUint16(TABLE_BYTES * block + 2, true);
    exponents[block + 1] = (exponents[block] ?? 0) + own;
    elements[block + 1] = (elements[block] ?? 0) + of.byteLength(count) - own;
  }
  const exponentsStart = table.length + (positions[blocks] ?? 0);
  const elementsStart = exponentsStart + (exponents[blocks] ?? 0);
  if (payloadBytes !== elementsStart + (elements[blocks] ?? 0)) return undefined;
  return {
    exponents: { start: exponentsStart, end: elementsStart },
    block: (block) => ({
      count: view.getUint16(TABLE_BYTES * block, true),
      positionsAt: table.length + (positions[block] ?? 0),
      positionBytes: view.getUint16(TABLE_BYTES * block + 2, true),
      exponentsAt: exponentsStart + (exponents[block] ?? 0),
      elementsAt: elementsStart + (elements[block] ?? 0),
    }),
  };
}

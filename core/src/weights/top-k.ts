import { CodecError, invariant } from '../errors.ts';
import type { Encoding, ReadValues, StoredPayload, ValueEncoding } from './encoding.ts';
import type { GridSpec } from './grid.ts';
import { thresholdOf } from './largest.ts';
import { positionBytesMax, readPositions, writePositions } from './positions.ts';
import { blockLengthAt, SPARSE_BLOCK, sparseFrame, TABLE_BYTES, type SparseBlock } from './sparse-frame.ts';

/**
 * The values with the largest magnitudes alone, each encoded as `of` does; all others are zero. A payload is cut into blocks of 8,192
 * values: a table of how many of each block are sent and in how many bytes their positions stand, then the positions of all blocks, then
 * the exponents of all blocks, then their elements. The values of a block that are sent share exponents as neighbours do in `of`.
 * Source: Aji, Heafield 2017, "Sparse Communication for Distributed Gradient Descent".
 */
export function topK(of: ValueEncoding): Encoding {
  const name = `topk-${of.name}` as const;
  const noPayload = (length: number): CodecError => new CodecError(`this is no payload of ${length} values in ${name}`);

  const open = (payload: StoredPayload, length: number, grid: GridSpec): ReadValues => {
    const table = new Uint8Array(Math.min(TABLE_BYTES * blocksOf(length), payload.bytes));
    payload.read(table, 0);
    const frame = sparseFrame(table, payload.bytes, length, of);
    if (frame === undefined) throw noPayload(length);
    const positions = new Uint16Array(SPARSE_BLOCK);
    return (start, end) => {
      const values = new Float32Array(end - start);
      const first = Math.floor(start / SPARSE_BLOCK);
      for (let block = first; block * SPARSE_BLOCK < end; block++) {
        const at = frame.block(block);
        const bytes = new Uint8Array(at.positionBytes);
        payload.read(bytes, at.positionsAt);
        if (readPositions(bytes, blockLengthAt(length, block), positions) !== at.count) throw noPayload(length);
        const sent = of.decode(valuesAt(payload, at, of), at.count, grid);
        const shift = block * SPARSE_BLOCK - start;
        for (let i = 0; i < at.count; i++) {
          const into = (positions[i] ?? 0) + shift;
          if (into >= 0 && into < values.length) values[into] = sent[i] ?? 0;
        }
      }
      return values;
    };
  };

  return {
    name,
    values: of.name,
    sends: 'largest',
    bytesMin: (length) => TABLE_BYTES * blocksOf(length),
    bytesMax: (length, share) => {
      const sent = sentOf(length, share);
      const blocks = blocksOf(length);
      // Each block has a part of an exponent's block and of a byte for itself.
      return (TABLE_BYTES + 2) * blocks + positionBytesMax(length, sent) + of.byteLength(sent);
    },
    encode: (values, grid, random, share) => {
      invariant(share !== undefined && share > 0 && share <= 1, 'who sends the largest values says how many');
      const sent = chosen(values, sentOf(values.length, share));
      const parts = sent.map(({ positions, kept }, block) => ({
        positions: writePositions(positions, blockLengthAt(values.length, block)),
        count: kept.length,
        payload: of.encode(kept, grid, random),
      }));
      const table = new Uint8Array(TABLE_BYTES * parts.length);
      const view = new DataView(table.buffer);
      for (const [block, { count, positions }] of parts.entries()) {
        view.setUint16(TABLE_BYTES * block, count, true);
        view.setUint16(TABLE_BYTES * block + 2, positions.length, true);
      }
      const exponents = parts.map(({ payload, count }) => payload.subarray(0, of.exponentBytes(count)));
      const elements = parts.map(({ payload, count }) => payload.subarray(of.exponentBytes(count)));
      return joined([table, ...parts.map(({ positions }) => positions), ...exponents, ...elements]);
    },
    decode: (payload, length, grid) => open(inMemory(payload), length, grid)(0, length),
    open,
  };
}

const blocksOf = (length: number): number => Math.ceil(length / SPARSE_BLOCK);

/** How many of `length` values are sent at most. */
const sentOf = (length: number, share: number): number => Math.ceil(share * length);

/** The values that are sent, block by block, with their positions within it. */
function chosen(values: Float32Array, count: number): { positions: Uint16Array; kept: Float32Array }[] {
  const { bits, equal } = thresholdOf(values, count);
  const magnitudes = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const positions = new Uint16Array(SPARSE_BLOCK);
  let equalLeft = equal;
  return Array.from({ length: blocksOf(values.length) }, (_, block) => {
    const start = block * SPARSE_BLOCK;
    let found = 0;
    for (let i = start; i < start + blockLengthAt(values.length, block); i++) {
      const magnitude = (magnitudes[i] ?? 0) & 0x7fffffff;
      if (magnitude < bits || (magnitude === bits && equalLeft-- <= 0)) continue;
      positions[found++] = i - start;
    }
    const own = positions.slice(0, found);
    return { positions: own, kept: Float32Array.from(own, (position) => values[start + position] ?? 0) };
  });
}

/** The values of a block that are sent, as the encoding of the values has them. */
function valuesAt({ read }: StoredPayload, at: SparseBlock, of: ValueEncoding): Uint8Array {
  const bytes = new Uint8Array(of.byteLength(at.count));
  const exponents = bytes.subarray(0, of.exponentBytes(at.count));
  read(exponents, at.exponentsAt);
  read(bytes.subarray(exponents.length), at.elementsAt);
  return bytes;
}

const inMemory = (payload: Uint8Array): StoredPayload => ({
  bytes: payload.length,
  read: (into, offset) => into.set(payload.subarray(offset, offset + into.length)),
});

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

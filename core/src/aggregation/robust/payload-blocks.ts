import { encodings, type EncodingName } from '../../weights/encoding.ts';
import type { GridSpec } from '../../weights/grid.ts';
import type { UpdateBlocks } from './updates.ts';

/** Encoded updates as a rule reads them. `readBytes` fills bytes of an update's payload from an offset. */
export function payloadBlocks(input: {
  encoding: EncodingName;
  grid: GridSpec;
  length: number;
  weights: readonly number[];
  root?: number;
  readBytes(update: number, into: Uint8Array, offset: number): void;
}): UpdateBlocks {
  const { encoding, grid, length, weights, root, readBytes } = input;
  const { partsOf, decode } = encodings[encoding];
  return {
    count: weights.length,
    length,
    weights,
    ...(root === undefined ? {} : { root }),
    read: (update, start, end) => {
      const parts = partsOf(length, start, end);
      const payload = new Uint8Array(parts.reduce((bytes, part) => bytes + part.end - part.start, 0));
      let filled = 0;
      for (const part of parts) {
        const next = filled + part.end - part.start;
        readBytes(update, payload.subarray(filled, next), part.start);
        filled = next;
      }
      return decode(payload, end - start, grid);
    },
  };
}

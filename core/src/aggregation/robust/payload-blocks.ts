import { invariant } from '../../errors.ts';
import { encodings, type EncodingName, type StoredPayload } from '../../weights/encoding.ts';
import type { GridSpec } from '../../weights/grid.ts';
import type { UpdateBlocks } from './updates.ts';

/** Encoded updates as a rule reads them. */
export function payloadBlocks(input: {
  encoding: EncodingName;
  grid: GridSpec;
  length: number;
  updates: readonly (StoredPayload & { weight: number })[];
  root?: number;
}): UpdateBlocks {
  const { encoding, grid, length, updates, root } = input;
  const opened = updates.map((update) => encodings[encoding].open(update, length, grid));
  return {
    count: updates.length,
    length,
    weights: updates.map(({ weight }) => weight),
    ...(root === undefined ? {} : { root }),
    read: (update, start, end) => {
      const values = opened[update];
      invariant(values !== undefined, 'rules read the updates that there are');
      return values(start, end);
    },
  };
}

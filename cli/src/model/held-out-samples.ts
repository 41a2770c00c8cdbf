/** Whether what a form is tested on is other data than it was made of. */
import { contractOf, type ModelProto } from '@commonweight/core';
import { createHash } from 'node:crypto';
import { CommandError } from '../output/failure.ts';
import type { Samples } from './run-model.ts';

/** How many examples of `unseen` are among those of `known` too, by their bytes. Throws CommandError where all are. */
export function requireHeldOut(model: ModelProto, known: Samples, unseen: Samples): number {
  // Only where the first axis is open, it counts examples.
  const isOpen = contractOf(model).inputs.every(({ dims }) => (dims[0] ?? 1) < 0);
  const seen = new Set(digestsOf(known, isOpen));
  const digests = digestsOf(unseen, isOpen);
  const shared = digests.filter((digest) => seen.has(digest)).length;
  if (shared < digests.length) return shared;
  throw new CommandError(
    `all ${shared} examples of '${unseen.source}' are also in '${known.source}': give --test data that --calibrate does not have, such as another split`,
  );
}

function digestsOf({ batches }: Samples, isOpen: boolean): string[] {
  return batches.flatMap(({ feeds }) => {
    const tensors = Object.values(feeds);
    const rows = isOpen ? (tensors[0]?.dims[0] ?? 1) : 1;
    return Array.from({ length: rows }, (_, row) => {
      const hash = createHash('sha256');
      for (const { data } of tensors) {
        const width = data.length / rows;
        const own = data.slice(row * width, (row + 1) * width);
        hash.update(ArrayBuffer.isView(own) ? new Uint8Array(own.buffer) : JSON.stringify(own));
      }
      return hash.digest('base64');
    });
  });
}

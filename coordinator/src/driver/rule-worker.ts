/** Runs one rule over one spooled round, and ends. */
import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { encodings, invariant, strategyFrom, type UpdateBlocks } from '@commonweight/core';
import type { RuleRequest } from './run-rule.ts';

const port = parentPort;
if (port === null) throw new Error('this file is a worker');
const request = workerData as RuleRequest;
const file = openSync(request.path, 'r');
try {
  const { robust } = strategyFrom(request.strategy);
  invariant(robust !== undefined, 'only updates of a robust strategy are spooled');
  const aggregate = robust.rule(updatesOf(request, file), request.memory);
  port.postMessage(aggregate, [aggregate.delta.buffer as ArrayBuffer]);
} finally {
  closeSync(file);
}

function updatesOf({ payloadBytes, encoding, grid, length, updates }: RuleRequest, from: number): UpdateBlocks {
  const { partsOf, decode } = encodings[encoding];
  return {
    count: updates.length,
    length,
    weights: updates.map(({ weight }) => weight),
    read: (update, start, end) => {
      const offset = (updates[update]?.slot ?? 0) * payloadBytes;
      const parts = partsOf(length, start, end);
      const payload = new Uint8Array(parts.reduce((bytes, part) => bytes + part.end - part.start, 0));
      let filled = 0;
      for (const part of parts) {
        readFully(from, payload.subarray(filled, filled + part.end - part.start), offset + part.start);
        filled += part.end - part.start;
      }
      return decode(payload, end - start, grid);
    },
  };
}

function readFully(from: number, into: Uint8Array, at: number): void {
  for (let read = 0; read < into.length;) {
    const bytes = readSync(from, into, read, into.length - read, at + read);
    if (bytes === 0) throw new Error('the spooled updates are shorter than they were written');
    read += bytes;
  }
}

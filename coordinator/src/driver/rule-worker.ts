/** Runs one rule over one spooled round, and ends. */
import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { invariant, payloadBlocks, strategyFrom, type UpdateBlocks } from '@commonweight/core';
import { loadStrategy } from '../strategies/load-strategy.ts';
import type { RuleRequest } from './run-rule.ts';

const port = parentPort;
if (port === null) throw new Error('this file is a worker');
const request = workerData as RuleRequest;
const file = openSync(request.path, 'r');
try {
  if (request.own !== undefined) {
    const { label } = await loadStrategy(request.own.file);
    if (label !== request.own.label)
      throw new Error(`${request.own.file} was ${request.own.label} and is ${label} now`);
  }
  const { robust } = strategyFrom(request.strategy);
  invariant(robust !== undefined, 'only updates of a robust strategy are spooled');
  const aggregate = robust.rule(updatesOf(request, file), request.memory);
  port.postMessage(aggregate, [aggregate.delta.buffer as ArrayBuffer]);
} finally {
  closeSync(file);
}

function updatesOf({ updates, ...request }: RuleRequest, from: number): UpdateBlocks {
  return payloadBlocks({
    ...request,
    updates: updates.map(({ offset: start, bytes, weight }) => ({
      bytes,
      weight,
      read: (into, offset) => readFully(from, into, start + offset),
    })),
  });
}

function readFully(from: number, into: Uint8Array, at: number): void {
  for (let read = 0; read < into.length;) {
    const bytes = readSync(from, into, read, into.length - read, at + read);
    if (bytes === 0) throw new Error('the spooled updates are shorter than they were written');
    read += bytes;
  }
}

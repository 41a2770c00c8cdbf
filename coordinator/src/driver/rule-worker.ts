/** Runs rules over spooled rounds, one after another, until it is told to end. */
import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { invariant, payloadBlocks, strategyFrom, type RobustAggregate, type UpdateBlocks } from '@commonweight/core';
import { loadStrategy } from '../strategies/load-strategy.ts';
import type { RuleReply, RuleRequest } from './run-rule.ts';

const port = parentPort;
if (port === null) throw new Error('this file is a worker');

port.on('message', (request: RuleRequest | undefined) => {
  if (request === undefined) return port.close();
  aggregated(request).then(
    (aggregate) => port.postMessage({ aggregate } satisfies RuleReply, [aggregate.delta.buffer as ArrayBuffer]),
    (error: unknown) => port.postMessage({ error: error as Error } satisfies RuleReply),
  );
});

async function aggregated(request: RuleRequest): Promise<RobustAggregate> {
  const file = openSync(request.path, 'r');
  try {
    if (request.own !== undefined) {
      const { label } = await loadStrategy(request.own.file);
      if (label !== request.own.label)
        throw new Error(`${request.own.file} was ${request.own.label} and is ${label} now`);
    }
    const { robust } = strategyFrom(request.strategy);
    invariant(robust !== undefined, 'only updates of a robust strategy are spooled');
    return robust.rule(updatesOf(request, file), request.memory);
  } finally {
    closeSync(file);
  }
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

import { Worker } from 'node:worker_threads';
import type { EncodingName, GridSpec, RobustAggregate } from '@commonweight/core';
import type { SpooledPayload } from './spool.ts';

/** All that a worker needs to know to run a strategy's rule over a spooled round. */
export interface RuleRequest {
  strategy: { name: string } & Record<string, number | string>;
  /** The file of a user's own strategy, and what it was called when it was loaded. */
  own?: { file: string; label: string };
  path: string;
  encoding: EncodingName;
  grid: GridSpec;
  length: number;
  /** In the order in which the rule sees the updates. */
  updates: readonly (SpooledPayload & { weight: number })[];
  /** The one of them that the others are judged by, where the rule has such. */
  root?: number;
  /** What the strategy remembered with the base. */
  memory: readonly Float32Array[];
}

/** Runs the rule in a thread of its own: seconds of arithmetic would hold up the event loop. Throws what the worker failed of. */
export function runRule(request: RuleRequest): Promise<RobustAggregate> {
  const isSource = import.meta.url.endsWith('.ts');
  const worker = new Worker(new URL(isSource ? './rule-worker.ts' : './rule-worker.js', import.meta.url), {
    workerData: request,
    execArgv: [...(isSource ? ['--conditions=@commonweight/source'] : []), '--disable-warning=ExperimentalWarning'],
  });
  const { promise, resolve, reject } = Promise.withResolvers<RobustAggregate>();
  worker.once('message', resolve);
  worker.once('error', reject);
  // After a message or an error this changes nothing.
  worker.once('exit', (code) => reject(new Error(`the thread of ${request.strategy.name} ended with code ${code}`)));
  return promise;
}

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

/** What the thread answers. */
export type RuleReply = { aggregate: RobustAggregate } | { error: Error };

/** A thread that had nothing to do for so long ends. */
const REST_MS = 60_000;

/** Built-in rules go on in the same thread: V8 aborts now and then where threads that have compiled code come and go (nodejs/node#64500). */
const resting: { worker: Worker; end: NodeJS.Timeout }[] = [];

/** Runs the rule in a thread of its own: seconds of arithmetic would hold up the event loop. Throws what the worker failed of. */
export async function runRule(request: RuleRequest): Promise<RobustAggregate> {
  // A file of a user's is loaded anew each time.
  const isOwn = request.own !== undefined;
  const worker = isOwn ? started() : awoken();
  const reply = await replyTo(request, worker);
  if (isOwn) worker.postMessage(undefined);
  else rest(worker);
  if ('error' in reply) throw reply.error;
  return reply.aggregate;
}

function started(): Worker {
  const isSource = import.meta.url.endsWith('.ts');
  const worker = new Worker(new URL(isSource ? './rule-worker.ts' : './rule-worker.js', import.meta.url), {
    execArgv: [...(isSource ? ['--conditions=@commonweight/source'] : []), '--disable-warning=ExperimentalWarning'],
  });
  // Who asked it hears why it ended; where it rested nobody misses it.
  return worker.on('error', () => {}).once('exit', () => forget(worker));
}

function awoken(): Worker {
  const found = resting.pop();
  if (found === undefined) return started();
  clearTimeout(found.end);
  found.worker.ref();
  return found.worker;
}

function rest(worker: Worker): void {
  const end = setTimeout(() => {
    forget(worker);
    worker.postMessage(undefined);
  }, REST_MS);
  end.unref();
  worker.unref();
  resting.push({ worker, end });
}

function forget(worker: Worker): void {
  const at = resting.findIndex((one) => one.worker === worker);
  if (at >= 0) clearTimeout(resting.splice(at, 1)[0]!.end);
}

function replyTo(request: RuleRequest, worker: Worker): Promise<RuleReply> {
  const { promise, resolve, reject } = Promise.withResolvers<RuleReply>();
  const ended = (code: number): void =>
    reject(new Error(`the thread of ${request.strategy.name} ended with code ${code}`));
  worker.once('message', resolve).once('error', reject).once('exit', ended);
  worker.postMessage(request);
  return promise.finally(() => worker.off('message', resolve).off('error', reject).off('exit', ended));
}

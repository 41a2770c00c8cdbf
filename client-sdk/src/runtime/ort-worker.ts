/** Owns the ONNX Runtime sessions of a process: a run would hold up the event loop of the app. */
import { parentPort } from 'node:worker_threads';
import { env, InferenceSession, Tensor } from 'onnxruntime-node';
import { providersOf } from './engine-probe.ts';
import type { WorkerRequest } from './messages.ts';
import { serveSessions } from './serve-sessions.ts';

const port = parentPort;
if (port === null) throw new Error('this file is a worker');

const perform = serveSessions({
  name: `onnxruntime-node ${env.versions.node ?? env.versions.common} ${process.platform}-${process.arch}`,
  Tensor,
  create: (model, { threads, engine }) => {
    const options: InferenceSession.SessionOptions = {
      executionProviders: providersOf(engine),
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      // Only errors: a warning about a model belongs in the thrown error, not on the app's console.
      logSeverityLevel: 3,
    };
    return typeof model === 'string'
      ? InferenceSession.create(model, options)
      : InferenceSession.create(model, options);
  },
});

port.on('message', async ({ id, request }: { id: number; request: WorkerRequest }) => {
  const { reply, transfer } = await perform(id, request);
  port.postMessage(reply, transfer);
  // After this answer nothing holds the worker any more, so it ends by itself.
  if (request.kind === 'shut-down') setImmediate(() => port.close());
});

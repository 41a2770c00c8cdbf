/** Owns the sessions of ONNX Runtime Web in Node. */
import { parentPort } from 'node:worker_threads';
import { env, InferenceSession, Tensor } from 'onnxruntime-web';
import type { WorkerRequest } from './messages.ts';
import { serveSessions } from './serve-sessions.ts';

const port = parentPort;
if (port === null) throw new Error('this file is a worker');

const perform = serveSessions({
  name: `onnxruntime-web ${env.versions.web ?? env.versions.common} wasm in Node`,
  Tensor,
  create: (model, { threads }) => {
    if (typeof model === 'string') throw new Error('WebAssembly takes models as bytes');
    env.wasm.numThreads = threads;
    return InferenceSession.create(model, { executionProviders: ['wasm'], logSeverityLevel: 3 });
  },
});

port.on('message', async ({ id, request }: { id: number; request: WorkerRequest }) => {
  const { reply, transfer } = await perform(id, request);
  port.postMessage(reply, transfer);
  if (request.kind === 'shut-down') setImmediate(() => port.close());
});

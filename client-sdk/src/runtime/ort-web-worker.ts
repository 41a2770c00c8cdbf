/** Owns the ONNX Runtime sessions of a page: a run would hold up what the page draws. */
import { env, InferenceSession, Tensor } from 'onnxruntime-web/wasm';
import type { WorkerRequest } from './messages.ts';
import { serveSessions } from './serve-sessions.ts';

interface WorkerScope {
  crossOriginIsolated: boolean;
  addEventListener(name: 'message', listener: (event: { data: { id: number; request: WorkerRequest } }) => void): void;
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
}

const scope = globalThis as unknown as WorkerScope;

const perform = serveSessions({
  name: `onnxruntime-web ${env.versions.web ?? env.versions.common} wasm`,
  Tensor,
  create: (model, threads) => {
    if (typeof model === 'string') throw new Error('a page has no files');
    // Threads need memory that is shared, which only isolated pages have.
    env.wasm.numThreads = scope.crossOriginIsolated ? threads : 1;
    return InferenceSession.create(model, { executionProviders: ['wasm'], logSeverityLevel: 3 });
  },
});

scope.addEventListener('message', ({ data: { id, request } }) => {
  void perform(id, request).then(({ reply, transfer }) => scope.postMessage(reply, transfer));
});

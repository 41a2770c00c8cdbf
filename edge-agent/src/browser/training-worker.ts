/** The worker that trains in a page. */
import type { Dataset } from '../data/dataset.ts';
import { ortWeb, type OrtWeb } from '../training/engines/ort-web.ts';
import type { ToTrainer } from '../training/messages.ts';
import { serveTrainings } from '../training/serve-trainings.ts';

interface WorkerScope {
  crossOriginIsolated: boolean;
  addEventListener(name: 'message', listener: (event: { data: ToTrainer<Dataset> }) => void): void;
  postMessage(message: unknown): void;
}

const scope = globalThis as unknown as WorkerScope;

const answer = serveTrainings<Dataset>({
  load: (data) => Promise.resolve(data),
  openEngine: async (engine, { threads }) => {
    // Threads need memory that is shared, which only isolated pages have.
    const wanted = scope.crossOriginIsolated ? threads : 1;
    // Each is large, so only the one that is used is loaded.
    return engine === 'ort-webgpu'
      ? ortWeb((await import('onnxruntime-web/webgpu')) as OrtWeb, { provider: 'webgpu', threads: wanted })
      : ortWeb((await import('onnxruntime-web/wasm')) as OrtWeb, { provider: 'wasm', threads: wanted });
  },
  tell: (message) => scope.postMessage(message),
});

scope.addEventListener('message', ({ data }) => void answer(data));

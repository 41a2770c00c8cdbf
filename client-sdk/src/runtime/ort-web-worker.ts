/** Owns the ONNX Runtime sessions of a page: a run would hold up what the page draws. */
import { env, InferenceSession, Tensor } from 'onnxruntime-web/wasm';
import { servePage } from './serve-page.ts';

const { crossOriginIsolated } = globalThis as unknown as { crossOriginIsolated: boolean };

servePage({
  name: `onnxruntime-web ${env.versions.web ?? env.versions.common} wasm`,
  Tensor,
  create: (model, { threads }) => {
    if (typeof model === 'string') throw new Error('a page has no files');
    // Threads need memory that is shared, which only isolated pages have.
    env.wasm.numThreads = crossOriginIsolated ? threads : 1;
    return InferenceSession.create(model, { executionProviders: ['wasm'], logSeverityLevel: 3 });
  },
});

/** Owns the sessions of a page that run on the GPU. Operators that WebGPU lacks run in WebAssembly. */
import { env, InferenceSession, Tensor } from 'onnxruntime-web/webgpu';
import { servePage } from './serve-page.ts';

servePage({
  name: `onnxruntime-web ${env.versions.web ?? env.versions.common}`,
  Tensor,
  create: (model) => {
    if (typeof model === 'string') throw new Error('a page has no files');
    env.wasm.numThreads = 1;
    return InferenceSession.create(model, { executionProviders: ['webgpu', 'wasm'], logSeverityLevel: 3 });
  },
});

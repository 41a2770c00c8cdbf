import type { Engine } from '../engine.ts';
import { OrtTrainingEngine } from './ort-engine.ts';
import type { OrtRuntime } from './ort-program.ts';

/** What of onnxruntime-web is used: the same in a browser and in Node. */
export interface OrtWeb {
  env: { wasm: { numThreads?: number } };
  InferenceSession: { create(model: Uint8Array, options: object): ReturnType<OrtRuntime['createSession']> };
  Tensor: OrtRuntime['Tensor'];
}

/** ONNX Runtime in WebAssembly, or on the GPU of a browser. */
export function ortWeb(
  { env, InferenceSession, Tensor }: OrtWeb,
  { provider, threads }: { provider: 'wasm' | 'webgpu'; threads: number },
): Engine {
  env.wasm.numThreads = threads;
  const isOnGpu = provider === 'webgpu';
  const createSession: OrtRuntime['createSession'] = (model, { onCpu = false, onDevice = [] } = {}) =>
    InferenceSession.create(model, {
      executionProviders: [onCpu ? 'wasm' : provider],
      logSeverityLevel: 4,
      ...(onDevice.length === 0
        ? {}
        : { preferredOutputLocation: Object.fromEntries(onDevice.map((output) => [output, 'gpu-buffer'])) }),
    });
  return new OrtTrainingEngine(isOnGpu ? 'ort-webgpu' : 'ort-web', isOnGpu ? { pooling: 'comparison' } : {}, {
    Tensor,
    createSession,
    keeps: isOnGpu ? 'on-device' : 'as-given',
    tellsNumbers: true,
  });
}

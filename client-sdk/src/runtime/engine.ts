import type { TypedTensor } from './tensor.ts';

/** What runs models: ONNX Runtime on the CPU or by the name of a provider, or in WebAssembly; or TensorFlow.js, of `@commonweight/edge-agent/tfjs`. */
export type EngineName = 'ort-cpu' | 'ort-cuda' | 'ort-webgpu' | 'ort-dml' | 'ort-coreml' | 'ort-web' | 'tfjs';

/** A loaded model. */
export interface Session {
  /** The buffers of the feeds are handed over: they cannot be used afterwards. */
  run(feeds: Record<string, TypedTensor>): Promise<Record<string, TypedTensor>>;
  /** Milliseconds of one run, the mean of so many; without the way to where it runs and back, where there is one. */
  time?(feeds: Record<string, TypedTensor>, runs: number): Promise<number>;
  release(): Promise<void>;
}

/** What loads and runs models. */
export interface Engine {
  /** Where models are loaded that are said to be for no other. */
  readonly name: EngineName;
  /** Name and version of the runtime: what fails in one may work in another. */
  runtime(on?: EngineName): Promise<string>;
  load(onnx: Uint8Array, on?: EngineName): Promise<Session>;
  close(): Promise<void>;
}

import type { TypedTensor } from '@commonweight/client-sdk';
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import type { Feeds, Runnable } from '../engine.ts';
import type { OrtRuntime } from './ort-program.ts';
import { ortTensors, typedTensor } from './ort-tensors.ts';

/** A graph that ONNX Runtime only runs. */
export class OrtRunnable implements Runnable {
  readonly #runtime: OrtRuntime;
  readonly #session: InferenceSession;

  private constructor(runtime: OrtRuntime, session: InferenceSession) {
    this.#runtime = runtime;
    this.#session = session;
  }

  static async load(runtime: OrtRuntime, model: Uint8Array): Promise<OrtRunnable> {
    return new OrtRunnable(runtime, await runtime.createSession(model, { onCpu: true }));
  }

  async run(feeds: Feeds): Promise<Record<string, TypedTensor>> {
    const results = await this.#session.run(ortTensors(this.#runtime.Tensor, feeds));
    return Object.fromEntries(Object.entries(results).map(([name, value]) => [name, typedTensor(value as Tensor)]));
  }

  release(): Promise<void> {
    return this.#session.release();
  }
}

import type { TypedTensor } from './tensor.ts';

/** A loaded model. */
export interface Session {
  /** The buffers of the feeds are handed over: they cannot be used afterwards. */
  run(feeds: Record<string, TypedTensor>): Promise<Record<string, TypedTensor>>;
  release(): Promise<void>;
}

/** What loads and runs models. */
export interface Engine {
  /** Name and version of the runtime: what fails in one may work in another. */
  runtime(): Promise<string>;
  load(onnx: Uint8Array): Promise<Session>;
  close(): Promise<void>;
}

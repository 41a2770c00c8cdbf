import type { InferenceSession, Tensor as OrtTensor, TensorConstructor } from 'onnxruntime-node';
import { float16Bits, float16Value } from '@commonweight/core';
import type { EngineName, Session } from './engine.ts';
import { halfTensor } from './half-tensor.ts';
import { serveRequests, type Perform } from './serve-requests.ts';
import type { TypedTensor } from './tensor.ts';

/** What of ONNX Runtime's JavaScript API a worker needs: the same on every platform. */
export interface Runtime {
  name: string;
  create(model: string | Uint8Array, on: { threads: number; engine: EngineName }): Promise<InferenceSession>;
  Tensor: TensorConstructor;
}

/** The sessions of a worker that runs ONNX Runtime. */
export const serveSessions = ({ name, create, Tensor }: Runtime): Perform =>
  serveRequests({ name, create: async (model, on) => sessionOf(await create(model, on), Tensor) });

const sessionOf = (session: InferenceSession, Tensor: TensorConstructor): Session => ({
  run: async (feeds) => {
    const given = Object.entries(feeds).map(([input, tensor]) => [input, inRuntime(Tensor, tensor)]);
    return outputsOf(await session.run(Object.fromEntries(given) as Record<string, OrtTensor>));
  },
  release: () => session.release(),
});

function inRuntime(Tensor: TensorConstructor, { type, data, dims }: TypedTensor): OrtTensor {
  if (type === 'float16') return halfTensor(Tensor, Uint16Array.from(data as Float32Array, float16Bits), dims);
  return new Tensor(type as 'float32', data as Float32Array, dims);
}

function outputsOf(results: InferenceSession.OnnxValueMapType): Record<string, TypedTensor> {
  const outputs: Record<string, TypedTensor> = {};
  for (const [name, value] of Object.entries(results)) {
    const { type, data, dims } = value as OrtTensor;
    // A copy of its own: the runtime's buffer may not be transferred.
    const own = type === 'float16' ? floatsOf(data as ArrayLike<number>) : (data as Float32Array).slice();
    outputs[name] = { type: type as TypedTensor['type'], data: own, dims };
  }
  return outputs;
}

/** Halves come as numbers where JavaScript has an array for them, and else as their bits. */
const floatsOf = (halves: ArrayLike<number>): Float32Array =>
  halves instanceof Uint16Array ? Float32Array.from(halves, float16Value) : Float32Array.from(halves);

import type { InferenceSession, Tensor as OrtTensor, TensorConstructor } from 'onnxruntime-node';
import { float16Bits, float16Value } from '@commonweight/core';
import type { EngineName } from './engine.ts';
import { halfTensor } from './half-tensor.ts';
import type { WorkerReply, WorkerRequest, WorkerResult } from './messages.ts';
import type { TypedTensor } from './tensor.ts';

/** What of ONNX Runtime's JavaScript API a worker needs: the same on every platform. */
export interface Runtime {
  name: string;
  create(model: string | Uint8Array, on: { threads: number; engine: EngineName }): Promise<InferenceSession>;
  Tensor: TensorConstructor;
}

/** The sessions of a worker. Gives what performs a request and says what may be handed over with the reply. */
export function serveSessions({
  name,
  create,
  Tensor,
}: Runtime): (id: number, request: WorkerRequest) => Promise<{ reply: WorkerReply; transfer: ArrayBuffer[] }> {
  const sessions = new Map<number, InferenceSession>();
  let sessionsMade = 0;
  return async (id, request) => {
    try {
      const result = await perform(request);
      return { reply: { id, ...result }, transfer: buffersOf(result) };
    } catch (error) {
      return { reply: { id, error: (error as Error).message }, transfer: [] };
    }
  };

  async function perform(request: WorkerRequest): Promise<WorkerResult> {
    switch (request.kind) {
      case 'about':
        return { runtime: name };
      case 'load': {
        const session = await create(request.model, request);
        sessionsMade += 1;
        sessions.set(sessionsMade, session);
        return { session: sessionsMade };
      }
      case 'run': {
        const session = sessions.get(request.session);
        if (session === undefined) throw new Error('the session was released');
        const feeds = Object.entries(request.feeds).map(([input, tensor]) => [input, inRuntime(Tensor, tensor)]);
        return { outputs: outputsOf(await session.run(Object.fromEntries(feeds) as Record<string, OrtTensor>)) };
      }
      case 'release': {
        const session = sessions.get(request.session);
        sessions.delete(request.session);
        await session?.release();
        return { done: true };
      }
      case 'shut-down': {
        for (const session of sessions.values()) await session.release();
        sessions.clear();
        return { done: true };
      }
    }
  }
}

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

const buffersOf = (result: WorkerResult): ArrayBuffer[] =>
  'outputs' in result
    ? Object.values(result.outputs).flatMap(({ data }) =>
        ArrayBuffer.isView(data) ? [data.buffer as ArrayBuffer] : [],
      )
    : [];

import { halfTensor, type TypedTensor } from '@commonweight/client-sdk';
import type { Tensor, TensorConstructor } from 'onnxruntime-node';
import type { Feeds } from '../engine.ts';

/** What a run is given, in the runtime's tensors; halves are held by their bits. */
export function ortTensors(Make: TensorConstructor, feeds: Feeds): Record<string, Tensor> {
  const tensors: Record<string, Tensor> = {};
  for (const [name, { type, data, dims }] of Object.entries(feeds)) {
    tensors[name] =
      type === 'float16'
        ? halfTensor(Make, data as Uint16Array, dims)
        : new Make(type as 'float32', data as Float32Array, dims);
  }
  return tensors;
}

/** A result, with halves by their bits: the runtime gives them as numbers where JavaScript has an array for them. */
export function typedTensor({ type, data, dims }: Tensor): TypedTensor {
  if (type !== 'float16') return { type, data, dims } as TypedTensor;
  const { buffer, byteOffset, length } = data as Uint16Array;
  return { type, data: new Uint16Array(buffer, byteOffset, length), dims };
}

import type { Tensor, TensorConstructor } from 'onnxruntime-node';

/**
 * A float16 tensor from its bits. onnxruntime-node 1.30 reads none where JavaScript has a Float16Array of its own (Node 24): the tensor
 * then holds one, which its native half takes for empty. Bits under another name pass.
 */
export function halfTensor(Tensor: TensorConstructor, bits: Uint16Array, dims: readonly number[]): Tensor {
  const tensor = new Tensor('uint16', bits, dims);
  return Object.assign(tensor, { type: 'float16' }) as Tensor;
}

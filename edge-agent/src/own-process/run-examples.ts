import { halfTensor, type TypedTensor } from '@commonweight/client-sdk';
import { float16Bits, type TensorSpec } from '@commonweight/core';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { exampleInputs } from '../data/example-inputs.ts';
import type { Dataset } from '../data/dataset.ts';

/** A model that runs on the CPU. */
export const openSession = (onnx: Uint8Array, threads: number): Promise<InferenceSession> =>
  InferenceSession.create(onnx, { intraOpNumThreads: threads, interOpNumThreads: 1, logSeverityLevel: 3 });

/** Some examples of a set as a model takes them. Throws DataError where they do not fit its inputs. */
export function feedsOf(
  set: Dataset,
  inputs: readonly TensorSpec[],
  indices: readonly number[],
): Record<string, Tensor> {
  const tensors = Object.entries(exampleInputs(set, inputs, indices));
  return Object.fromEntries(tensors.map(([name, tensor]) => [name, tensorOf(tensor)]));
}

/** Apps have halves as floats, and the runtime takes their bits. */
function tensorOf({ type, data, dims }: TypedTensor): Tensor {
  if (type === 'float16') return halfTensor(Tensor, Uint16Array.from(data as Float32Array, float16Bits), dims);
  return new Tensor(type, data as Tensor.DataTypeMap[typeof type], dims) as Tensor;
}

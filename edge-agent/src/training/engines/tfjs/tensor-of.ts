import type { TypedTensor } from '@commonweight/client-sdk';
import { float16Value } from '@commonweight/core';
import { EngineError } from '../../engine.ts';
import type { Tensor, TfLibrary } from './operator.ts';

/** What a step is given, in TensorFlow.js's types: it has floats and whole numbers of 32 bits, and bools. */
export function tensorOf(tf: TfLibrary, name: string, { type, data, dims }: TypedTensor): Tensor {
  const shape = [...dims];
  switch (type) {
    case 'float32':
      return tf.tensor(data as Float32Array, shape, 'float32');
    case 'float64':
      return tf.tensor(Float32Array.from(data as Float64Array), shape, 'float32');
    case 'float16':
      return tf.tensor(Float32Array.from(data as Uint16Array, float16Value), shape, 'float32');
    case 'bool':
      return tf.tensor(Uint8Array.from(data as Uint8Array), shape, 'bool');
    default:
      return tf.tensor(wholes(name, data as ArrayLike<number>), shape, 'int32');
  }
}

function wholes(name: string, data: ArrayLike<number | bigint>): Int32Array {
  const numbers = Int32Array.from(data as ArrayLike<number>, Number);
  const lost = numbers.findIndex((number, at) => number !== Number(data[at]));
  if (lost === -1) return numbers;
  throw new EngineError(`tfjs has no whole number ${data[lost]}, which '${name}' is given; ort-cpu has`);
}

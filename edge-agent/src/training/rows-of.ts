import type { TypedTensor } from '@commonweight/client-sdk';
import type { BoundInput } from '../data/bind.ts';
import { sizeOf } from '../data/dataset.ts';
import { elementOf, type Packed } from '../data/elements.ts';

/** Examples as a tensor of so many rows; rows that are not there are the first once more, which any model has an answer to. */
export function rowsOf({ dtype, shape, values }: BoundInput, indices: readonly number[], rows: number): TypedTensor {
  const { type, make } = elementOf(dtype)!;
  const size = sizeOf(shape);
  const batch: Packed = make(rows * size);
  for (let row = 0; row < rows; row++) {
    const index = indices[row < indices.length ? row : 0]!;
    if (ArrayBuffer.isView(values)) {
      (batch as Float32Array).set((values as Float32Array).subarray(index * size, (index + 1) * size), row * size);
    } else for (let at = 0; at < size; at++) batch[row * size + at] = values[index * size + at]!;
  }
  return { type, data: batch, dims: [rows, ...shape] };
}

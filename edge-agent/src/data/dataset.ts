/** Labelled examples in memory. */
export interface Dataset {
  /** All inputs, one example after the other. */
  inputs: Float32Array;
  /** Shape of one example. */
  inputShape: readonly number[];
  labels: Int32Array;
  classes: number;
  examples: number;
}

/** Data that cannot be read or used. Names the file and the mend. */
export class DataError extends Error {
  override name = 'DataError';
}

/** The examples at some indices, in their order. */
export function subset(data: Dataset, indices: readonly number[]): Dataset {
  const size = data.inputs.length / data.examples;
  const inputs = new Float32Array(indices.length * size);
  indices.forEach((index, i) => inputs.set(data.inputs.subarray(index * size, (index + 1) * size), i * size));
  return {
    ...data,
    inputs,
    labels: Int32Array.from(indices, (index) => data.labels[index] ?? 0),
    examples: indices.length,
  };
}

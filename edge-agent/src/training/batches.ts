import type { TypedTensor } from '@commonweight/client-sdk';
import type { TrainingGraph } from '@commonweight/core';
import { DataError, type Dataset } from '../data/dataset.ts';
import type { Feeds } from './engine.ts';

/** What of a graph that trains or measures says how examples go in. */
type BatchGraph = Pick<TrainingGraph, 'batchSize' | 'data' | 'sampleWeights' | 'target'>;

export const sizeOf = (shape: readonly number[]): number => shape.reduce((product, dim) => product * dim, 1);

/** Turns examples into the tensors of a batch. */
export class Batches {
  readonly #data: Dataset;
  readonly #graph: BatchGraph;
  readonly #inputSize: number;
  readonly #targetSize: number;

  constructor(data: Dataset, graph: BatchGraph, classes: number | undefined) {
    this.#data = data;
    this.#graph = graph;
    this.#inputSize = sizeOf(graph.data.shape) / graph.batchSize;
    this.#targetSize = sizeOf(graph.target.shape) / graph.batchSize;
    const given = data.inputs.length / data.examples;
    if (given !== this.#inputSize) {
      throw new DataError(
        `an example has ${given} values and the model takes ${this.#inputSize}: use data that fits the model`,
      );
    }
    const isClass = graph.target.dtype === 'int64';
    const wrong = data.labels.find((label) => isClass && classes !== undefined && (label < 0 || label >= classes));
    if (wrong !== undefined) {
      throw new DataError(
        `there is a label ${wrong} and the model has ${classes} classes, from 0 on: use data that fits the model`,
      );
    }
  }

  /** A batch; what a partial one lacks is filled with zeros of weight 0, so no example is dropped and none is counted twice. */
  feedsOf(indices: readonly number[]): Feeds {
    const { data, target, sampleWeights, batchSize } = this.#graph;
    const inputs = new Float32Array(batchSize * this.#inputSize);
    const weights = new Float32Array(batchSize).fill(1, 0, indices.length);
    indices.forEach((index, i) => {
      inputs.set(
        this.#data.inputs.subarray(index * this.#inputSize, (index + 1) * this.#inputSize),
        i * this.#inputSize,
      );
    });
    return {
      [data.name]:
        data.dtype === 'int64'
          ? { type: 'int64', data: BigInt64Array.from(inputs, (value) => BigInt(Math.trunc(value))), dims: data.shape }
          : { type: 'float32', data: inputs, dims: data.shape },
      [target.name]: target.dtype === 'int64' ? this.#classTarget(indices) : this.#floatTarget(indices),
      [sampleWeights]: { type: 'float32', data: weights, dims: [batchSize] },
    };
  }

  #classTarget(indices: readonly number[]): TypedTensor {
    const { target, batchSize } = this.#graph;
    const labels = new BigInt64Array(batchSize);
    indices.forEach((index, i) => (labels[i] = BigInt(this.#data.labels[index] ?? 0)));
    return { type: 'int64', data: labels, dims: target.shape };
  }

  /** One output takes the label itself, several take it one-hot. */
  #floatTarget(indices: readonly number[]): TypedTensor {
    const { target, batchSize } = this.#graph;
    const size = this.#targetSize;
    const values = new Float32Array(batchSize * size);
    indices.forEach((index, i) => {
      const label = this.#data.labels[index] ?? 0;
      if (size === 1) values[i] = label;
      else if (label < size) values[i * size + label] = 1;
    });
    return { type: 'float32', data: values, dims: target.shape };
  }
}

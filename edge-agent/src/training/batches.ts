import { halfTensor } from '@commonweight/client-sdk';
import type { TrainingGraph } from '@commonweight/core';
import { Tensor } from 'onnxruntime-node';
import { bindInputs, bindTarget, LABEL, type BoundInput, type InputShape } from '../data/bind.ts';
import { DataError, sizeOf, type Dataset } from '../data/dataset.ts';
import { elementOf, type Packed } from '../data/elements.ts';

export type Feeds = Record<string, Tensor>;
/** What of a graph that trains or measures says how examples go in. */
type BatchGraph = Pick<TrainingGraph, 'batchSize' | 'data' | 'sampleWeights' | 'target'>;

/** What of a model and a plan the data must keep to. */
export interface TargetLimits {
  /** Of the model's output; undefined where its size is not fixed. */
  classes: number | undefined;
  /** A label that counts for nothing, and fills lists of labels up. */
  ignoreIndex?: number | undefined;
}

/** Sets in the shapes of the last models that they were given to: rounds of a task need the same again. */
const bound = new WeakMap<Dataset, Map<string, BoundInput[]>>();
const BOUND_MAX = 3;

/** Turns examples into the tensors of a batch. */
export class Batches {
  readonly #graph: BatchGraph;
  readonly #inputs: readonly BoundInput[];
  readonly #target: BoundInput;

  constructor(data: Dataset, graph: BatchGraph, { classes, ignoreIndex }: TargetLimits) {
    const { target } = graph;
    this.#graph = graph;
    const shapes = graph.data.map(exampleOf);
    const wanted = exampleOf({ ...target, name: LABEL });
    this.#inputs = once(data, JSON.stringify(shapes), () => bindInputs(data, shapes));
    [this.#target] = once(data, JSON.stringify([wanted, ignoreIndex]), () => [
      bindTarget(data, wanted, ignoreIndex),
    ]) as [BoundInput];
    if (target.dtype === 'int64' && classes !== undefined)
      requireClasses(this.#target.values as BigInt64Array, classes, ignoreIndex);
  }

  /** A batch; what a partial one lacks is filled with zeros of weight 0, so no example is dropped and none is counted twice. */
  feedsOf(indices: readonly number[]): Feeds {
    const { target, sampleWeights, batchSize } = this.#graph;
    const weights = new Float32Array(batchSize).fill(1, 0, indices.length);
    return {
      ...Object.fromEntries(this.#inputs.map((input) => [input.name, rowsOf(input, indices, batchSize)])),
      [target.name]: rowsOf(this.#target, indices, batchSize),
      [sampleWeights]: new Tensor('float32', weights, [batchSize]),
    };
  }
}

const exampleOf = ({ name, dtype, shape }: { name: string; dtype: string; shape: readonly number[] }): InputShape => ({
  name,
  dtype,
  shape: shape.slice(1),
});

function once(data: Dataset, key: string, make: () => BoundInput[]): BoundInput[] {
  const known = bound.get(data) ?? new Map<string, BoundInput[]>();
  bound.set(data, known);
  const found = known.get(key) ?? make();
  // The last one used is the last one to go.
  known.delete(key);
  known.set(key, found);
  const [oldest] = known.keys();
  if (known.size > BOUND_MAX) known.delete(oldest!);
  return found;
}

/** Examples as a tensor of so many rows; rows that are not there are zeros. */
export function rowsOf({ dtype, shape, values }: BoundInput, indices: readonly number[], rows: number): Tensor {
  const { type, make } = elementOf(dtype)!;
  const size = sizeOf(shape);
  const batch: Packed = make(rows * size);
  indices.forEach((index, row) => {
    if (ArrayBuffer.isView(values)) {
      (batch as Float32Array).set((values as Float32Array).subarray(index * size, (index + 1) * size), row * size);
    } else for (let at = 0; at < size; at++) batch[row * size + at] = values[index * size + at]!;
  });
  const dims = [rows, ...shape];
  if (type === 'float16') return halfTensor(Tensor, batch as Uint16Array, dims);
  return new Tensor(type as 'float32', batch as Float32Array, dims);
}

function requireClasses(labels: BigInt64Array, classes: number, ignoreIndex: number | undefined): void {
  const [end, ignored] = [BigInt(classes), ignoreIndex === undefined ? undefined : BigInt(ignoreIndex)];
  const wrong = labels.find((label) => (label < 0n || label >= end) && label !== ignored);
  if (wrong === undefined) return;
  throw new DataError(
    `there is a label ${wrong} and the model has ${classes} classes, from 0 on: use data that fits the model`,
  );
}

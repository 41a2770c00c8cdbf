import type { TypedTensor } from '@commonweight/client-sdk';
import type { TrainingGraph } from '@commonweight/core';
import { bindInputs, bindTarget, LABEL, type BoundInput, type InputShape } from '../data/bind.ts';
import { DataError, type Dataset } from '../data/dataset.ts';
import type { Feeds } from './engine.ts';
import type { Front } from './front.ts';
import { rowsOf } from './rows-of.ts';

/** What of a graph that trains or measures says how examples go in. */
type BatchGraph = Pick<TrainingGraph, 'batchSize' | 'data' | 'sampleWeights' | 'target'>;

/** What of a model and a plan the data must keep to. */
export interface TargetLimits {
  /** Of the model's output; undefined where its size is not fixed. */
  classes: number | undefined;
  /** A label that counts for nothing, and fills lists of labels up. */
  ignoreIndex?: number | undefined;
  /** What stands in front of the model. */
  front?: Front | undefined;
}

/** Sets in the shapes of the last models that they were given to: rounds of a task need the same again. */
const bound = new WeakMap<Dataset, Map<string, BoundInput[]>>();
const BOUND_MAX = 3;

/** Turns examples into the tensors of a batch. */
export class Batches {
  readonly #data: Dataset;
  readonly #graph: BatchGraph;
  readonly #front: Front | undefined;
  readonly #inputs: readonly BoundInput[];
  readonly #target: BoundInput;

  constructor(data: Dataset, graph: BatchGraph, { classes, ignoreIndex, front }: TargetLimits) {
    const { target } = graph;
    this.#data = data;
    this.#graph = graph;
    this.#front = front;
    const own = graph.data.filter(({ name }) => front?.outputs.includes(name) !== true).map(exampleOf);
    const shapes = [...(front?.inputs ?? []), ...own];
    const wanted = exampleOf({ ...target, name: LABEL });
    this.#inputs = once(data, JSON.stringify(shapes), () => bindInputs(data, shapes));
    [this.#target] = once(data, JSON.stringify([wanted, ignoreIndex]), () => [
      bindTarget(data, wanted, ignoreIndex),
    ]) as [BoundInput];
    if (target.dtype === 'int64' && classes !== undefined)
      requireClasses(this.#target.values as BigInt64Array, classes, ignoreIndex);
  }

  /** A batch; what a partial one lacks is filled with an example of weight 0, so no example is dropped and none is counted twice. */
  async feedsOf(indices: readonly number[]): Promise<Feeds> {
    const { data, target, sampleWeights, batchSize } = this.#graph;
    const weights = new Float32Array(batchSize).fill(1, 0, indices.length);
    const first = Array.from(indices, (_, row) => row);
    const made = (await this.#front?.rows(this.#data, this.#inputs, indices)) ?? [];
    const feed = ({ name, shape }: BatchGraph['data'][number]): [string, TypedTensor] => {
      const one = made.find((output) => output.name === name);
      if (one === undefined) {
        return [
          name,
          rowsOf(
            this.#inputs.find((input) => input.name === name)!,
            indices,
            batchSize,
          ),
        ];
      }
      if (one.shape.join() !== shape.slice(1).join()) {
        throw new DataError(
          `what stands in front of the model makes examples of [${one.shape.join(', ')}] for '${name}', and the model trains on [${shape.slice(1).join(', ')}]`,
        );
      }
      return [name, rowsOf(one, first, batchSize)];
    };
    return {
      ...Object.fromEntries(data.map(feed)),
      [target.name]: rowsOf(this.#target, indices, batchSize),
      [sampleWeights]: { type: 'float32', data: weights, dims: [batchSize] },
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

function requireClasses(labels: BigInt64Array, classes: number, ignoreIndex: number | undefined): void {
  const [end, ignored] = [BigInt(classes), ignoreIndex === undefined ? undefined : BigInt(ignoreIndex)];
  const wrong = labels.find((label) => (label < 0n || label >= end) && label !== ignored);
  if (wrong === undefined) return;
  throw new DataError(
    `there is a label ${wrong} and the model has ${classes} classes, from 0 on: use data that fits the model`,
  );
}

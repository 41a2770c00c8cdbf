import { frontPart, writeModel, type ModelProto, type TensorSpec } from '@commonweight/core';
import type { TypedTensor } from '@commonweight/client-sdk';
import type { BoundInput, InputShape } from '../data/bind.ts';
import { DataError, sizeOf, type Dataset } from '../data/dataset.ts';
import { elementOf, type Packed } from '../data/elements.ts';
import { byEngine, type Engine, type Runnable } from './engine.ts';
import { rowsOf } from './rows-of.ts';

/** Bytes of what comes out for a whole set, up to which it is computed once and kept. */
const KEPT_BYTES_MAX = 256 * 1024 * 1024;
/** Examples that go through at once, where all do. */
const AT_ONCE = 256;

/** What stands in front of a model's trained part. Nothing in it is trained, so that what comes out of it for an example never changes. */
export class Front {
  /** What the model's data go into. */
  readonly inputs: readonly InputShape[];
  readonly #outputs: readonly TensorSpec[];
  readonly #part: Runnable;
  readonly #kept = new WeakMap<Dataset, Promise<BoundInput[] | undefined>>();

  private constructor(inputs: readonly TensorSpec[], outputs: readonly TensorSpec[], part: Runnable) {
    this.inputs = inputs.map(({ name, dtype, dims }) => ({ name, dtype, shape: dims.slice(1) }));
    this.#outputs = outputs;
    this.#part = part;
  }

  /** Undefined where nothing stands in front of the model. */
  static async open(model: ModelProto, engine: Engine): Promise<Front | undefined> {
    const part = frontPart(model);
    if (part === undefined) return undefined;
    const loaded = await byEngine(() => engine.load(writeModel(part.model)));
    return new Front(part.inputs, part.outputs, loaded);
  }

  /** Names of what comes out. */
  get outputs(): readonly string[] {
    return this.#outputs.map(({ name }) => name);
  }

  /** What comes out for some examples of a set, one after the other. */
  async rows(data: Dataset, given: readonly BoundInput[], indices: readonly number[]): Promise<BoundInput[]> {
    let kept = this.#kept.get(data);
    if (kept === undefined) this.#kept.set(data, (kept = this.#whole(data, given)));
    const whole = await kept;
    if (whole === undefined) return await this.#run(data, given, indices);
    return whole.map((one) => ({ ...one, values: picked(one, indices) }));
  }

  async release(): Promise<void> {
    await this.#part.release();
  }

  /** All examples at once, where there is room for what comes out. */
  async #whole(data: Dataset, given: readonly BoundInput[]): Promise<BoundInput[] | undefined> {
    const parts: BoundInput[][] = [];
    for (let start = 0; start < data.examples; start += AT_ONCE) {
      const indices = Array.from({ length: Math.min(AT_ONCE, data.examples - start) }, (_, at) => start + at);
      const part = await this.#run(data, given, indices);
      const bytes = part.reduce((sum, { values }) => sum + (ArrayBuffer.isView(values) ? values.byteLength : 0), 0);
      if ((bytes / indices.length) * data.examples > KEPT_BYTES_MAX) return undefined;
      parts.push(part);
    }
    const [first = []] = parts;
    if (parts.some((part) => part.some(({ shape }, at) => shape.join() !== first[at]!.shape.join()))) return undefined;
    return first.map((one, at) => ({
      ...one,
      values: joined(
        one.dtype,
        parts.map((part) => part[at]!.values),
      ),
    }));
  }

  async #run(data: Dataset, given: readonly BoundInput[], indices: readonly number[]): Promise<BoundInput[]> {
    const own = given.filter(({ name }) => this.inputs.some((input) => input.name === name));
    let results: Readonly<Record<string, TypedTensor>>;
    try {
      results = await this.#part.run(
        Object.fromEntries(own.map((input) => [input.name, rowsOf(input, indices, indices.length)])),
      );
    } catch (cause) {
      const [first = ''] = (cause as Error).message.split('\n');
      throw new DataError(`what stands in front of the model cannot read ${data.source} (${first.slice(0, 200)})`, {
        cause,
      });
    }
    return this.#outputs.map(({ name, dtype }) => {
      const { data: values, dims } = results[name]!;
      if (dims[0] !== indices.length) {
        throw new DataError(
          `what stands in front of the model gives '${name}' [${dims.join(', ')}] for ${indices.length} examples: one row each is wanted`,
        );
      }
      return { name, dtype, shape: dims.slice(1), values };
    });
  }
}

function picked({ dtype, shape, values }: BoundInput, indices: readonly number[]): Packed {
  const size = sizeOf(shape);
  const some = elementOf(dtype)!.make(indices.length * size);
  indices.forEach((index, row) => {
    (some as Float32Array).set((values as Float32Array).subarray(index * size, (index + 1) * size), row * size);
  });
  return some;
}

function joined(dtype: string, parts: readonly Packed[]): Packed {
  const all = elementOf(dtype)!.make(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    (all as Float32Array).set(part as Float32Array, at);
    at += part.length;
  }
  return all;
}

/** Inputs to try a model on: what apps asked lately, or else made-up numbers. */
import { seeded, type TensorSpec } from '@commonweight/core';
import { bytesIn, elementKind, sizeOf, type Feeds, type TypedTensor } from './tensor.ts';

/** Examples that are kept. */
const EXAMPLES_MAX = 64;
/** Bytes of all of them. */
const BYTES_MAX = 8 * 1024 * 1024;

/** The first rows of the latest predictions, in memory only. */
export class RecentInputs {
  #examples: { feeds: Feeds; bytes: number }[] = [];
  #bytes = 0;

  get examples(): readonly Feeds[] {
    return this.#examples.map(({ feeds }) => feeds);
  }

  add(specs: readonly TensorSpec[], feeds: Feeds): void {
    const row = firstRow(specs, feeds);
    const bytes = Object.values(row).reduce((sum, { data }) => sum + bytesIn(data), 0);
    if (bytes > BYTES_MAX / 4) return;
    this.#examples.push({ feeds: row, bytes });
    this.#bytes += bytes;
    while (this.#examples.length > EXAMPLES_MAX || this.#bytes > BYTES_MAX)
      this.#bytes -= this.#examples.shift()!.bytes;
  }
}

/** Made-up rows: numbers of a normal distribution, and zeros and ones where a whole number may be an index. */
export function madeUpInputs(specs: readonly TensorSpec[], { rows, seed }: { rows: number; seed: string }): Feeds {
  const random = seeded(`inputs ${seed}`);
  return Object.fromEntries(
    specs.map(({ name, dtype, dims: open }): [string, TypedTensor] => {
      const kind = elementKind(dtype);
      if (kind === undefined) throw new TypeError(`'${name}' holds ${dtype}, which cannot be made up`);
      const dims = open.map((dim, axis) => (dim >= 0 ? dim : axis === 0 ? rows : 1));
      const data = new kind.array(sizeOf(dims));
      for (let index = 0; index < data.length; index++) {
        if (Array.isArray(data)) data[index] = `text ${random.integer(2)}`;
        else if (data instanceof Float32Array || data instanceof Float64Array) data[index] = random.normal();
        else if (data instanceof BigInt64Array || data instanceof BigUint64Array)
          data[index] = BigInt(random.integer(2));
        else data[index] = random.integer(2);
      }
      return [name, { type: kind.type, data, dims }];
    }),
  );
}

function firstRow(specs: readonly TensorSpec[], feeds: Feeds): Feeds {
  const isOpen = specs.every(({ dims }) => dims.length > 0 && dims[0]! < 0);
  return Object.fromEntries(
    Object.entries(feeds).map(([name, { type, data, dims }]): [string, TypedTensor] =>
      isOpen
        ? [name, { type, data: data.slice(0, data.length / dims[0]!), dims: [1, ...dims.slice(1)] }]
        : [name, { type, data: data.slice(), dims }],
    ),
  );
}

import {
  elementKind,
  OrtEngine,
  type Session,
  type Tensor,
  type TensorData,
  type TypedTensor,
} from '@commonweight/client-sdk';
import { writeModel, type ModelProto, type TensorSpec } from '@commonweight/core';
import { CommandError } from '../output/failure.ts';

export type Feeds = Readonly<Record<string, TypedTensor>>;

/** Inputs of several runs, and the labels of their examples where they are known. */
export interface Samples {
  /** Says where the numbers come from. */
  source: string;
  batches: readonly { feeds: Feeds; labels?: ArrayLike<number> }[];
  /** What one request of an app would bring. */
  one: Feeds;
}

/** Runs models one after another in one worker. */
export class ModelRunner {
  readonly #engine: OrtEngine = new OrtEngine({ threads: 1 });

  async open(model: ModelProto): Promise<Session> {
    return await this.#engine.load(writeModel(model));
  }

  /** The outputs for each batch, as float tensors by name; others are left out. */
  async *run(model: ModelProto, { batches }: Samples): AsyncGenerator<Map<string, Float32Array>> {
    const session = await this.open(model);
    try {
      for (const { feeds } of batches) {
        const floats = Object.entries({ ...feeds, ...(await session.run(copyOf(feeds))) }).flatMap(
          ([name, { data }]): [string, Float32Array][] => (data instanceof Float32Array ? [[name, data]] : []),
        );
        yield new Map(floats);
      }
    } finally {
      await session.release();
    }
  }

  close(): Promise<void> {
    return this.#engine.close();
  }
}

/** A run takes the buffers that it is given, so each gets its own. */
export const copyOf = (feeds: Feeds): Record<string, TypedTensor> =>
  Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, { ...tensor, data: tensor.data.slice() }]));

/** Values as the tensor that the input wants; sizes fixed only at run time follow from how many there are. */
export function tensorFor(spec: TensorSpec, given: TensorData | Tensor): TypedTensor {
  const { name, dtype } = spec;
  const { data, dims } = 'dims' in given ? given : { data: given, dims: spec.dims };
  const type = elementKind(dtype)?.type;
  if (type === undefined) throw new CommandError(`input '${name}' is of type ${dtype}, which cannot be given here`);
  const open = dims.filter((dim) => dim < 0).length;
  const known = dims.reduce((size, dim) => (dim < 0 ? size : size * dim), 1);
  const free = data.length / known;
  if (open > 1 || !Number.isInteger(free) || free < 1 || (open === 0 && free !== 1)) {
    const shape = dims.map((dim) => (dim < 0 ? '?' : dim)).join(', ');
    throw new CommandError(`${data.length} values do not fill input '${name}' of shape [${shape}]: give other data`);
  }
  return { type, data, dims: dims.map((dim) => (dim < 0 ? free : dim)) };
}

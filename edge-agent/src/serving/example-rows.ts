import type { Contract, Feeds } from '@commonweight/client-sdk';
import { loadDataset } from '../data/load-dataset.ts';
import type { Dataset } from '../data/dataset.ts';

/** Rows that are enough to measure ranges on, spread over the data. */
const ROWS = 256;

/** Rows of a data set for models with one float input of its size; none for others, which get made-up ones. */
export function examplesFrom(spec: string): (contract: Contract) => Promise<Feeds[]> {
  let rows: Promise<Rows> | undefined;
  return async ({ inputs }) => {
    const [input, ...others] = inputs;
    if (input === undefined || others.length > 0 || input.dtype !== 'float') return [];
    // Loaded once; all but these rows may be forgotten.
    rows ??= loadDataset(spec).then(spread);
    const { size, values } = await rows;
    const dims = input.dims.map((dim) => (dim < 0 ? 1 : dim));
    if (dims.reduce((product, dim) => product * dim, 1) !== size) return [];
    return values.map((data) => ({ [input.name]: { type: 'float32', data, dims } }));
  };
}

interface Rows {
  size: number;
  values: Float32Array[];
}

function spread({ inputs, examples }: Dataset): Rows {
  const size = inputs.length / examples;
  const count = Math.min(ROWS, examples);
  const values = Array.from({ length: count }, (_, index) => {
    const start = Math.floor((index * examples) / count) * size;
    return inputs.slice(start, start + size);
  });
  return { size, values };
}

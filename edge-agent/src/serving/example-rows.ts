import type { Contract, Feeds } from '@commonweight/client-sdk';
import { loadDataset } from '../data/load-dataset.ts';
import { DataError, type Dataset } from '../data/dataset.ts';
import { exampleInputs } from '../data/example-inputs.ts';

/** Rows that are enough to measure ranges on, spread over the data. */
const ROWS = 256;

/** Rows of a data set for models that it fits; none for others, which get made-up ones. */
export function examplesFrom(spec: string): (contract: Contract) => Promise<Feeds[]> {
  let data: Promise<Dataset> | undefined;
  return async ({ inputs }) => {
    // Loaded once.
    data ??= loadDataset(spec);
    const { examples } = await data;
    const count = Math.min(ROWS, examples);
    try {
      const set = await data;
      return Array.from({ length: count }, (_, index) =>
        exampleInputs(set, inputs, [Math.floor((index * examples) / count)]),
      );
    } catch (error) {
      if (error instanceof DataError) return [];
      throw error;
    }
  };
}

import type { Contract, Feeds, LabelledFeeds } from '@commonweight/client-sdk';
import { loadDataset } from '../data/load-dataset.ts';
import { DataError, labelsOf, type Dataset } from '../data/dataset.ts';
import { exampleInputs } from '../data/example-inputs.ts';

/** Rows that are enough to measure ranges on and to compare outputs of. */
const ROWS = 256;
/** Rows that are taken where labels say what is right: of 2,000, half a point of accuracy is ten answers. */
const LABELLED_ROWS = 2304;
/** Bytes of all of them, beyond the first. */
const BYTES_MAX: number = 64 * 1024 * 1024;

/** Rows of a data set, spread over it, for models that it fits, with their classes where it has some; none for others, which get made-up ones. */
export function examplesFrom(spec: string): (contract: Contract) => Promise<Feeds[] | LabelledFeeds> {
  let data: Promise<Dataset> | undefined;
  return async ({ inputs }) => {
    // Loaded once.
    data ??= loadDataset(spec);
    const set = await data;
    const rowAt = (index: number): Feeds => exampleInputs(set, inputs, [index]);
    try {
      const labels = labelsOf(set);
      const count = Math.min(set.examples, labels === undefined ? ROWS : rowsOf(rowAt(0)));
      const places = Array.from({ length: count }, (_, index) => Math.floor((index * set.examples) / count));
      const rows = places.map(rowAt);
      return labels === undefined ? rows : { rows, labels: places.map((place) => labels[place]!) };
    } catch (error) {
      if (error instanceof DataError) return [];
      throw error;
    }
  };
}

/** How many such rows are taken. */
function rowsOf(row: Feeds): number {
  const bytes = Object.values(row).reduce((sum, { data }) => sum + (ArrayBuffer.isView(data) ? data.byteLength : 0), 1);
  return Math.min(LABELLED_ROWS, Math.max(ROWS, Math.floor(BYTES_MAX / bytes)));
}

import {
  importanceOf,
  scoreOf,
  seeded,
  withShuffledColumn,
  type Importance,
  type LabelledRows,
  type ScoreName,
} from '@commonweight/core';
import { InputError } from '../errors.ts';
import type { Contract } from '../model/contract.ts';
import type { Inputs } from '../model/inputs.ts';
import type { Tensor } from '../runtime/tensor.ts';

/** Rows of numbers, one after the other, and what is known of each: a class, or a number. */
export type LabelledTable = LabelledRows;

export interface ImportanceOptions {
  /** `accuracy`, or `mse` (minus the mean squared error, so that more is better) for models that answer with one number. */
  score?: ScoreName;
  /** How often each column is shuffled. */
  repeats?: number;
  seed?: number;
  /** Columns to try; all where nobody says. */
  columns?: readonly number[];
  /** Rows of one prediction. */
  batch?: number;
  onProgress?: (done: number, of: number) => void;
}

export interface Importances {
  version: number;
  /** Of the table as it is. */
  score: number;
  /** The worthiest first. */
  columns: Importance[];
}

/** What can be asked for predictions: a live model, or a version that is held. */
interface Predictor {
  contract: Contract | undefined;
  hold(): Held;
}

interface Held {
  version: number;
  predict(inputs: Inputs): Promise<{ outputs: Record<string, Tensor> }>;
  release(): void;
}

/**
 * How much worse a model answers when a column of a table is shuffled (Breiman 2001; Fisher, Rudin and Dominici 2019). One version answers all of
 * it. Columns that say the same share their worth: each can stand in for the other. Throws InputError.
 */
export async function permutationImportance(
  model: Predictor,
  table: LabelledTable,
  { score = 'accuracy', repeats = 5, seed = 1, columns, batch = 256, onProgress = () => {} }: ImportanceOptions = {},
): Promise<Importances> {
  const [input, ...others] = model.contract?.inputs ?? [];
  if (input === undefined || others.length > 0 || input.dtype !== 'float') {
    throw new InputError('a table fills one input of float numbers, and the model has others: explain single examples');
  }
  const rows = table.labels.length;
  const width = table.inputs.length / rows;
  if (rows < 2) throw new InputError(`a column of ${rows} rows cannot be shuffled: give 2 rows or more`);
  if (!Number.isInteger(width)) throw new InputError(`${table.inputs.length} numbers are not ${rows} rows`);
  const tried = columns ?? Array.from({ length: width }, (_, column) => column);
  const unknown = tried.find((column) => !Number.isInteger(column) || column < 0 || column >= width);
  if (unknown !== undefined) throw new InputError(`the table has columns 0 to ${width - 1}, and no ${unknown}`);
  if (!Number.isInteger(repeats) || repeats < 1)
    throw new InputError(`repeats is ${repeats}: give a whole number from 1 on`);
  const isOpen = (input.dims[0] ?? 0) < 0;
  const held = model.hold();
  try {
    const scoreNow = async (inputs: Float32Array): Promise<number> =>
      scoreOf(
        score,
        await answersTo(held, input.name, input.dims, inputs, isOpen ? batch * width : width),
        table.labels,
      );
    const asItIs = await scoreNow(table.inputs);
    const random = seeded(seed);
    const found: Importance[] = [];
    for (const [done, column] of tried.entries()) {
      const turns: number[] = [];
      for (let turn = 0; turn < repeats; turn++) {
        turns.push(await scoreNow(withShuffledColumn(table, column, random.fork(`${column}/${turn}`))));
      }
      found.push(importanceOf(column, asItIs, turns));
      onProgress(done + 1, tried.length);
    }
    return { version: held.version, score: asItIs, columns: found.toSorted((a, b) => b.drop - a.drop) };
  } finally {
    held.release();
  }
}

/** The first output of float numbers for all rows. */
async function answersTo(
  held: Held,
  name: string,
  spec: readonly number[],
  inputs: Float32Array,
  size: number,
): Promise<Float32Array> {
  const parts: Float32Array[] = [];
  for (let start = 0; start < inputs.length; start += size) {
    const data = inputs.slice(start, start + size);
    const fixed = spec.slice(1).reduce((product, dim) => product * dim, 1);
    const dims = spec.map((dim, axis) => (axis === 0 && dim < 0 ? data.length / fixed : dim));
    const { outputs } = await held.predict({ [name]: { data, dims } });
    const answer = Object.values(outputs).find((output) => output.data instanceof Float32Array);
    if (answer === undefined) throw new InputError('the model has no output of float numbers to score');
    parts.push(answer.data as Float32Array);
  }
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => {
    all.set(part, at);
    return at + part.length;
  }, 0);
  return all;
}

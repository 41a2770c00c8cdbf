import type { TypedArray } from '@commonweight/client-sdk';

/** Numbers, or texts, of many examples. */
export type Values = TypedArray | readonly string[];

/** What a source has of one name, for every example. */
export interface Column {
  name: string;
  /** One example after the other. */
  values: Values;
  /** Of one example, `[]` being one value; of one item where examples are lists. */
  shape: readonly number[];
  /** Where examples are lists of different lengths: where each ends, in items. */
  ends?: Uint32Array;
  /** What a value is multiplied by where floats are wanted: 1/255 of pixels. */
  scale?: number;
}

/** Examples in memory, as their source has them: no model is known yet. */
export interface Dataset {
  /** Says where they come from. */
  source: string;
  examples: number;
  /** In the order of the source. */
  columns: readonly Column[];
  /** Names of the columns that are to be learnt. */
  label: readonly string[];
  /** By a model's input: the columns that it is made of, where somebody said so. */
  mapping?: Readonly<Record<string, readonly string[]>>;
  /** Names of the classes in their order, where labels are texts. */
  classes?: readonly string[];
  /** Lists that are longer than an input are cut. */
  cuts?: boolean;
  /** Of a text file: the line of each example. */
  lines?: Uint32Array;
}

/** Data that cannot be read or used. Names the file and the mend. */
export class DataError extends Error {
  override name = 'DataError';
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((product, dim) => product * dim, 1);

/** The examples at some indices, in their order. */
export function subset(data: Dataset, indices: readonly number[]): Dataset {
  return {
    ...data,
    columns: data.columns.map((column) => rowsOf(column, indices)),
    examples: indices.length,
    ...(data.lines === undefined ? {} : { lines: Uint32Array.from(indices, (index) => data.lines![index]!) }),
  };
}

/** Where an example begins and ends among the column's values. */
export function spanOf({ shape, ends }: Column, example: number): [from: number, to: number] {
  const size = sizeOf(shape);
  if (ends === undefined) return [example * size, (example + 1) * size];
  return [(example === 0 ? 0 : ends[example - 1]!) * size, ends[example]! * size];
}

function rowsOf(column: Column, indices: readonly number[]): Column {
  const spans = indices.map((index) => spanOf(column, index));
  const length = spans.reduce((sum, [from, to]) => sum + to - from, 0);
  const values = emptyLike(column.values, length);
  let at = 0;
  for (const [from, to] of spans) {
    copy(column.values, from, to, values, at);
    at += to - from;
  }
  if (column.ends === undefined) return { ...column, values };
  let items = 0;
  const size = sizeOf(column.shape);
  return { ...column, values, ends: Uint32Array.from(spans, ([from, to]) => (items += (to - from) / size)) };
}

/** Room for so many values of the same kind. */
function emptyLike(values: Values, length: number): Values {
  if (!ArrayBuffer.isView(values)) return new Array<string>(length).fill('');
  return new (values.constructor as new (length: number) => TypedArray)(length);
}

function copy(from: Values, start: number, end: number, to: Values, at: number): void {
  if (ArrayBuffer.isView(from)) return (to as Float32Array).set((from as Float32Array).subarray(start, end), at);
  for (let i = start; i < end; i++) (to as string[])[at + i - start] = from[i]!;
}

/** A column of lists of one length, written as lists of any. */
export function evenLists(column: Column): Column {
  const [length = 1, ...shape] = column.shape;
  const count = column.values.length / (length * sizeOf(shape));
  return { ...column, shape, ends: Uint32Array.from({ length: count }, (_, index) => (index + 1) * length) };
}

/** A column by its name. */
export const columnOf = (data: Dataset, name: string): Column | undefined =>
  data.columns.find((column) => column.name === name);

/** Class labels are held as 32-bit whole numbers. */
const LABEL_MAX = 2 ** 31 - 1;

/** The class of each example; undefined where what is to be learnt is no class, or nothing. */
export function labelsOf(data: Dataset): Int32Array | undefined {
  const [only, ...others] = data.label;
  const column = only === undefined ? undefined : columnOf(data, only);
  if (column === undefined || others.length > 0 || column.ends !== undefined || sizeOf(column.shape) !== 1) {
    return undefined;
  }
  const { classes } = data;
  const labels = new Int32Array(data.examples);
  for (let i = 0; i < data.examples; i++) {
    const value = column.values[i]!;
    const label = typeof value === 'string' ? (classes?.indexOf(value) ?? -1) : Number(value);
    if (!Number.isInteger(label) || label < 0 || label > LABEL_MAX) return undefined;
    labels[i] = label;
  }
  return labels;
}

/** How many classes there are; undefined where there are none. */
export function classCount(data: Dataset): number | undefined {
  return data.classes?.length ?? labelsOf(data)?.reduce((max, label) => Math.max(max, label + 1), 0);
}

/** A set of one array of floats and a class for each example, such as tests and benchmarks make. */
export function arrayDataset(
  source: string,
  {
    values,
    shape,
    labels,
    name = 'input',
  }: { values: TypedArray; shape: readonly number[]; labels: TypedArray; name?: string },
): Dataset {
  const columns = [
    { name, values, shape },
    { name: 'label', values: labels, shape: [] },
  ];
  return { source, examples: labels.length, columns, label: ['label'] };
}

import { sourcesOf, type InputSource } from './input-sources.ts';
import { columnOf, DataError, evenLists, sizeOf, spanOf, type Column, type Dataset } from './dataset.ts';
import { elementOf, isFloating, type Packed } from './elements.ts';

/** What one example is for one of a model's inputs. */
export interface InputShape {
  name: string;
  /** As a contract names it. */
  dtype: string;
  /** Without the batch; -1 is as long as the longest list. */
  shape: readonly number[];
}

/** All examples of a set as an input takes them, one after the other. */
export interface BoundInput extends InputShape {
  values: Packed;
}

/** A set in the types and shapes of a model's inputs. Throws DataError naming the input, and what of the data does not fit. */
export function bindInputs(data: Dataset, inputs: readonly InputShape[]): BoundInput[] {
  const sources = sourcesOf(data, inputs);
  return inputs.map((input) => boundTo(data, input, sources.get(input.name)!));
}

/** What is to be learnt, as a loss takes it. Lists that are shorter than the target are filled with `filling`, which counts for nothing. */
export function bindTarget(data: Dataset, target: InputShape, filling?: number): BoundInput {
  const columns = data.label.map((name) => numbered(data, columnOf(data, name)!));
  const [only] = columns;
  if (only === undefined) {
    throw new DataError(
      `${data.source} has no column "label" but ${data.columns.map(({ name }) => name).join(', ')}: name the label's with &label=COLUMN`,
    );
  }
  const isOne = columns.length === 1 && only.ends === undefined && sizeOf(only.shape) === 1;
  if (target.dtype === 'float' && isOne && sizeOf(target.shape) > 1) return oneHot(data, only, target);
  return boundTo(data, target, { columns, filling });
}

/** A column of names of classes as one of their numbers. */
function numbered(data: Dataset, column: Column): Column {
  const { classes } = data;
  const { values } = column;
  if (classes === undefined || ArrayBuffer.isView(values)) return column;
  const numbers = new Float64Array(values.length);
  for (let i = 0; i < values.length; i++) {
    numbers[i] = classes.indexOf(values[i]!);
    if (numbers[i]! >= 0) continue;
    throw new DataError(
      `${data.source} has the label ${JSON.stringify(values[i])}, and the classes are ${classes.join(', ')}: name all with &classes=A,B`,
    );
  }
  return { ...column, values: numbers };
}

function boundTo(data: Dataset, input: InputShape, source: InputSource): BoundInput {
  const element = elementOf(input.dtype);
  if (element === undefined)
    throw new DataError(`input '${input.name}' is of type ${input.dtype}, which no data can be given for`);
  if ('constant' in source) {
    const shape = closed(input, 1);
    const values = element.make(data.examples * sizeOf(shape));
    const constant = element.from(source.constant);
    if (constant === undefined)
      throw new DataError(`${source.constant} is no ${input.dtype}, which input '${input.name}' takes`);
    return { ...input, shape, values: (values as Float32Array).fill(constant as number) };
  }
  if ('maskOf' in source) return maskOf(data, input, source.maskOf);
  const list = source.columns.length === 1 ? asList(source.columns[0]!, input) : undefined;
  if (list !== undefined) return padded(data, input, list, source.filling);
  const given = source.columns.reduce((sum, column) => sum + sizeOf(column.shape), 0);
  const shape = closed(input, given / sizeOf(input.shape.filter((size) => size >= 0)));
  const ragged = source.columns.find(({ ends }) => ends !== undefined);
  if (ragged !== undefined)
    throw new DataError(
      `"${ragged.name}" holds lists, which cannot be put beside other columns in input '${input.name}'`,
    );
  const size = sizeOf(shape);
  if (given !== size) {
    const from = source.columns.length > 8 ? '' : ` (${source.columns.map(({ name }) => name).join(', ')})`;
    throw new DataError(
      `an example has ${given} values${from} and ${what(input)} takes ${size}: use data that fits the model, or say which columns it is made of with &input.${input.name}=COLUMN,COLUMN`,
    );
  }
  const values = element.make(data.examples * size);
  let place = 0;
  for (const column of source.columns) {
    const width = sizeOf(column.shape);
    const write = writer(data, column, input, values);
    for (let i = 0; i < data.examples; i++) write(i * width, (i + 1) * width, i * size + place, i);
    place += width;
  }
  return { ...input, shape, values };
}

/** A column of lists; tokens that are all as many are lists as well, where an input takes more of them or fewer. */
function asList(column: Column, { dtype, shape }: InputShape): Column | undefined {
  if (column.ends !== undefined) return column;
  const isOther =
    shape.length === column.shape.length && shape.length > 0 && shape[0]! >= 0 && shape[0] !== column.shape[0];
  return isOther && !isFloating(dtype) ? evenLists(column) : undefined;
}

/** The input's shape, an open size being `open`. */
const closed = (input: InputShape, open: number): number[] =>
  input.shape.map((size) => (size < 0 ? Math.max(1, open) : size));

const what = ({ name, dtype, shape }: InputShape): string =>
  `input '${name}' (${dtype}[${shape.map((size) => (size < 0 ? '?' : size)).join(', ')}])`;

type Write = (from: number, to: number, at: number, example: number) => void;

/** How values of a column are put among those of an input. */
function writer(data: Dataset, column: Column, input: InputShape, into: Packed): Write {
  const { values, scale } = column;
  const isScaled = scale !== undefined && isFloating(input.dtype);
  if (ArrayBuffer.isView(values) && ArrayBuffer.isView(into) && !isScaled && isLossless(values, into, input.dtype)) {
    return (from, to, at) => (into as Float32Array).set((values as Float32Array).subarray(from, to), at);
  }
  const { from: convert } = elementOf(input.dtype)!;
  return (from, to, at, example) => {
    for (let index = from; index < to; index++) {
      const value = values[index]!;
      const converted = convert(isScaled ? Number(value) * scale : value);
      if (converted === undefined) throw misfit(data, column, value, input, example);
      (into as (number | bigint | string)[])[at + index - from] = converted;
    }
  };
}

/** Whether the arrays' own conversion loses nothing that would have to be told. */
function isLossless(from: { BYTES_PER_ELEMENT: number }, into: { BYTES_PER_ELEMENT: number }, dtype: string): boolean {
  if (dtype === 'bool' || dtype === 'float16') return false;
  const isFloat = into instanceof Float32Array || into instanceof Float64Array;
  const isSmall = from.BYTES_PER_ELEMENT < 4 || from instanceof Float32Array;
  return from.constructor === into.constructor || (isFloat && isSmall && !(from instanceof BigInt64Array));
}

function misfit(
  data: Dataset,
  column: Column,
  value: number | bigint | string,
  input: InputShape,
  example: number,
): DataError {
  const line = data.lines?.[example];
  const where = `${data.source}${line === undefined ? ` example ${example}` : ` line ${line}`}, column "${column.name}"`;
  const shown = typeof value === 'string' ? JSON.stringify(value.slice(0, 60)) : String(value);
  if (input.dtype === 'string') {
    return new DataError(
      `${where} was read as numbers, and ${what(input)} takes texts: keep them as they are written with &text=${column.name}`,
    );
  }
  if (typeof value === 'string' && input.name === LABEL) {
    return new DataError(
      `${where}: the label ${shown} is not a number: name the classes in their order with &classes=A,B`,
    );
  }
  return new DataError(`${where}: ${shown} is no ${input.dtype}, which ${what(input)} takes`);
}

/** Lists of different lengths, each with zeros (or the filling) behind it. */
function padded(data: Dataset, input: InputShape, column: Column, filling?: number): BoundInput {
  const item = sizeOf(column.shape);
  const longest = longestOf(data, column);
  const shape = closed(input, longest);
  const [length = 1, ...rest] = shape;
  if (sizeOf(rest) !== item || shape.length === 0) {
    throw new DataError(
      `"${column.name}" holds lists of [${column.shape.join(', ')}], and ${what(input)} takes others`,
    );
  }
  const values = elementOf(input.dtype)!.make(data.examples * length * item);
  if (filling !== undefined && ArrayBuffer.isView(values)) {
    if (values instanceof BigInt64Array) values.fill(BigInt(filling));
    else (values as Float32Array).fill(filling);
  }
  const write = writer(data, column, input, values);
  for (let i = 0; i < data.examples; i++) {
    const [from, to] = spanOf(column, i);
    const cut = Math.min(to, from + length * item);
    if (cut < to && data.cuts !== true) {
      const line = data.lines?.[i];
      throw new DataError(
        `${data.source} ${line === undefined ? `example ${i}` : `line ${line}`}: "${column.name}" has ${(to - from) / item} items and ${what(input)} takes ${length}: cut longer ones with &longer=cut`,
      );
    }
    if (cut < from + length * item && input.name === LABEL && filling === undefined) {
      throw new DataError(
        `"${column.name}" holds labels of different lengths: set lossOptions.ignoreIndex, which those that are missing get`,
      );
    }
    write(from, cut, i * length * item, i);
  }
  return { ...input, shape, values };
}

/** The name of the target among shapes. */
export const LABEL = 'label';

function longestOf(data: Dataset, column: Column): number {
  let longest = 0;
  for (let i = 0; i < data.examples; i++) {
    const [from, to] = spanOf(column, i);
    longest = Math.max(longest, to - from);
  }
  return longest / sizeOf(column.shape);
}

/** 1 where a list has an item, and 0 behind it. */
function maskOf(data: Dataset, input: InputShape, column: Column): BoundInput {
  const shape = closed(input, longestOf(data, column));
  const length = shape[0]!;
  const element = elementOf(input.dtype)!;
  const values = element.make(data.examples * length) as Float32Array;
  const one = element.from(1) as number;
  for (let i = 0; i < data.examples; i++) {
    const [from, to] = spanOf(column, i);
    const items = Math.min(length, (to - from) / sizeOf(column.shape));
    values.fill(one, i * length, i * length + items);
  }
  return { ...input, shape, values };
}

/** A class as one number a class. */
function oneHot(data: Dataset, column: Column, target: InputShape): BoundInput {
  const size = sizeOf(target.shape);
  const values = new Float32Array(data.examples * size);
  for (let i = 0; i < data.examples; i++) {
    const label = Number(column.values[i]);
    if (!Number.isInteger(label) || label < 0) throw misfit(data, column, column.values[i]!, target, i);
    if (label < size) values[i * size + label] = 1;
  }
  return { ...target, values };
}

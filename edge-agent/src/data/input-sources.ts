import { fitsAny } from '@commonweight/core';
import type { InputShape } from './bind.ts';
import { columnOf, DataError, evenLists, sizeOf, type Column, type Dataset } from './dataset.ts';

/** What an input is made of. */
export type InputSource =
  | { columns: readonly Column[]; filling?: number | undefined }
  /** Says which items of a list that was filled up are real. */
  | { maskOf: Column }
  | { constant: number };

/**
 * Which columns each input is made of: those that were named for it; else the one of its name; else, of a mask, what the list beside it
 * has; and one last input gets all columns that are left.
 */
export function sourcesOf(data: Dataset, inputs: readonly InputShape[]): Map<string, InputSource> {
  const named = data.mapping ?? {};
  const stray = Object.keys(named).find((name) => !inputs.some((input) => input.name === name));
  if (stray !== undefined) {
    throw new DataError(
      `&input.${stray}: the model has no input '${stray}' but ${inputs.map(({ name }) => `'${name}'`).join(', ')}`,
    );
  }
  const found = new Map<string, InputSource>();
  for (const { name } of inputs) {
    const own = columnOf(data, name);
    if (Object.hasOwn(named, name)) found.set(name, chosen(data, name, named[name]!));
    else if (own !== undefined) found.set(name, { columns: [own] });
  }
  const used = [...found.values()].flatMap((source) => ('columns' in source ? source.columns : []));
  const left = data.columns.filter((column) => !used.includes(column) && !data.label.includes(column.name));
  const [last, ...others] = inputs.filter((input) => !found.has(input.name) && !isMask(input));
  if (last !== undefined && others.length === 0 && left.length > 0) found.set(last.name, { columns: left });
  for (const input of inputs) {
    if (found.has(input.name)) continue;
    const list = isMask(input) ? listBeside(input, inputs, found) : undefined;
    if (list === undefined) throw lacking(data, input);
    found.set(input.name, { maskOf: list });
  }
  return found;
}

/** Numbers that an example has for a model's one input. */
export function valuesOfExample(data: Dataset, name: string = 'input'): number {
  const source = sourcesOf(data, [{ name, dtype: 'float', shape: [-1] }]).get(name)!;
  return 'columns' in source ? source.columns.reduce((sum, { shape }) => sum + sizeOf(shape), 0) : 1;
}

function chosen(data: Dataset, input: string, names: readonly string[]): InputSource {
  const [only] = names;
  // A name may have a comma in it.
  const whole = columnOf(data, names.join(','));
  if (whole !== undefined) return { columns: [whole] };
  const columns = names.flatMap((name) => {
    const fitting = data.columns.filter(
      (column) => column.name === name || (name.includes('*') && fitsAny(column.name, [name])),
    );
    if (fitting.length > 0 || names.length === 1) return fitting;
    throw new DataError(`&input.${input}: ${data.source} has no column "${name}": ${those(data)}`);
  });
  if (columns.length > 0) return { columns };
  const constant = Number(only);
  if (only !== undefined && only.trim() !== '' && Number.isFinite(constant)) return { constant };
  throw new DataError(`&input.${input}: ${data.source} has no column "${only}": ${those(data)}`);
}

const isMask = ({ name }: InputShape): boolean => /mask$/i.test(name);

/** The list of another input that is as long as the mask. */
function listBeside(
  mask: InputShape,
  inputs: readonly InputShape[],
  found: ReadonlyMap<string, InputSource>,
): Column | undefined {
  if (mask.shape.length !== 1) return undefined;
  const lists = inputs.flatMap(({ name, shape }) => {
    const source = found.get(name);
    const [column, ...more] = source !== undefined && 'columns' in source ? source.columns : [];
    const isLike = shape[0] === mask.shape[0] && column !== undefined && more.length === 0;
    if (!isLike) return [];
    if (column.ends !== undefined) return [column];
    // Lists that are all as long as the input are lists still.
    return column.shape.length > 0 ? [evenLists(column)] : [];
  });
  return lists.length === 1 ? lists[0] : undefined;
}

const those = (data: Dataset): string => `it has ${shortened(data.columns.map(({ name }) => name))}`;

const NAMES_SHOWN = 12;
const shortened = (names: readonly string[]): string =>
  names.length <= NAMES_SHOWN
    ? names.join(', ')
    : `${names.slice(0, NAMES_SHOWN).join(', ')} and ${names.length - NAMES_SHOWN} more`;

function lacking(data: Dataset, { name, dtype, shape }: InputShape): DataError {
  const wanted = `${dtype}[${shape.map((size) => (size < 0 ? '?' : size)).join(', ')}]`;
  return new DataError(
    `input '${name}' (${wanted}) has no column: ${data.source} has ${shortened(data.columns.map((column) => column.name))}; name those it is made of with &input.${name}=COLUMN,COLUMN, or a number that fills it`,
  );
}

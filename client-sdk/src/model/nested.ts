import type { TensorSpec } from '@commonweight/core';
import { InputError } from '../errors.ts';
import type { TensorData, TypedArray } from '../runtime/tensor.ts';
import { show } from './contract.ts';

/** Numbers or texts in arrays in arrays. */
export type Nested = readonly (number | bigint | boolean | string | Nested)[];

/** Values and their shape, from arrays in arrays; the dimension of rows may be left out. Throws InputError. */
export function fromNested(
  input: TensorSpec,
  given: Nested,
  make: (length: number) => TensorData,
): { data: TensorData; dims: number[] | undefined } {
  const dims = shapeOf(given);
  const flat: unknown[] = [];
  flatten(given, flat);
  const size = dims.reduce((product, dim) => product * dim, 1);
  const isText = input.dtype === 'string';
  const kinds = isText ? ['string'] : ['number', 'bigint', 'boolean'];
  const wrong = flat.find((value) => !kinds.includes(typeof value));
  if (wrong !== undefined || flat.length !== size) {
    const what = wrong === undefined ? 'its arrays have different lengths' : `it holds ${typeof wrong}`;
    throw new InputError(
      `input '${input.name}' is ${show(input)} and takes ${isText ? 'texts' : 'numbers'} in arrays: ${what}`,
    );
  }
  const data = make(flat.length);
  if (!ArrayBuffer.isView(data)) flat.forEach((value, i) => (data[i] = value as string));
  else flat.forEach((value, i) => setIn(input, data, i, value as number | bigint | boolean));
  if (dims.length === 1 && input.dims.length !== 1) return { data, dims: undefined };
  const isRow = dims.length === input.dims.length - 1 && (input.dims[0] ?? 0) < 0;
  return { data, dims: isRow ? [1, ...dims] : dims };
}

function setIn(input: TensorSpec, data: TypedArray, at: number, value: number | bigint | boolean): void {
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    if (typeof value === 'number' && !Number.isSafeInteger(value))
      throw new InputError(`input '${input.name}' is ${show(input)} and takes whole numbers, not ${value}`);
    data[at] = BigInt(value);
    return;
  }
  const number = Number(value);
  data[at] = number;
  const isFloat = data instanceof Float32Array || data instanceof Float64Array;
  // A float takes what is nearest; a whole number that became another was none, or too large.
  if (!isFloat && data[at] !== number)
    throw new InputError(`input '${input.name}' is ${show(input)} and does not hold ${String(value)}`);
}

/** As the first of each says: whether the others agree shows in their number. */
function shapeOf(given: Nested): number[] {
  const dims: number[] = [];
  for (let level: unknown = given; Array.isArray(level); level = level[0]) dims.push(level.length);
  return dims;
}

function flatten(nested: readonly unknown[], into: unknown[]): void {
  for (const one of nested) {
    if (Array.isArray(one)) flatten(one, into);
    else into.push(one);
  }
}

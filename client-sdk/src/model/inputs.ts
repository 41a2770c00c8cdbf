import type { TensorSpec } from '@commonweight/core';
import { InputError } from '../errors.ts';
import { elementKind, sizeOf, zeros, type Tensor, type TensorData, type TypedTensor } from '../runtime/tensor.ts';
import { ReadyImages, type ImageInput } from '../images/encoded.ts';
import type { Pixels } from '../images/resample.ts';
import { show } from './contract.ts';
import { fromNested, type Nested } from './nested.ts';

/**
 * What an app may give for an input: values alone where the shape follows from their number, or with their shape; numbers or texts in
 * arrays in arrays; an image, or several that are rows of a batch.
 */
export type InputValue =
  TensorData | Tensor | Nested | Pixels | ImageInput | readonly (Pixels | ImageInput)[] | ReadyImages;

export type Inputs = Record<string, InputValue>;

/** Checked copies of the app's inputs. Throws InputError. */
export function feedsFor(inputs: readonly TensorSpec[], given: Inputs): Record<string, TypedTensor> {
  const unknown = Object.keys(given).find((name) => !inputs.some((input) => input.name === name));
  if (unknown !== undefined) {
    throw new InputError(
      `the model has no input '${unknown}'; it has ${inputs.map(({ name }) => `'${name}'`).join(', ')}`,
    );
  }
  return Object.fromEntries(inputs.map((input) => [input.name, feedFor(input, given[input.name])]));
}

/** Zeros in every input, with 1 wherever a dimension is open: enough to run a model once. */
export function zerosFor(inputs: readonly TensorSpec[]): Record<string, TypedTensor> {
  return Object.fromEntries(
    inputs.map((input) => {
      const kind = kindOf(input);
      const dims = input.dims.map((dim) => (dim < 0 ? 1 : dim));
      return [input.name, { type: kind.type, data: zeros(kind, sizeOf(dims)), dims }];
    }),
  );
}

function feedFor(input: TensorSpec, given: InputValue | undefined): TypedTensor {
  const { name } = input;
  const { type, array } = kindOf(input);
  if (given === undefined) throw new InputError(`input '${name}' is missing: ${show(input)}`);
  if (given instanceof ReadyImages) return checked(input, given.asTensor(input, given.images));
  const { data, dims } = valuesIn(input, given as TensorData | Tensor | Nested, array);
  if (!(data instanceof array)) {
    const wanted = type === 'string' ? 'an array of texts' : `a ${array.name}`;
    throw new InputError(`input '${name}' is ${show(input)} and takes ${wanted}, not a ${typeName(data)}`);
  }
  const odd = Array.isArray(data) ? data.findIndex((text: unknown) => typeof text !== 'string') : -1;
  if (odd >= 0) throw new InputError(`input '${name}' takes texts, and value ${odd} is none`);
  checkDims(input, dims);
  if (data.length !== sizeOf(dims)) {
    throw new InputError(
      `input '${name}' has ${data.length} values, and dims [${dims.join(', ')}] hold ${sizeOf(dims)}`,
    );
  }
  // A copy: the worker takes the buffer, and the app keeps its own.
  return { type, data: data.slice(), dims: [...dims] };
}

function valuesIn(
  input: TensorSpec,
  given: TensorData | Tensor | Nested,
  array: new (length: number) => TensorData,
): { data: TensorData; dims: readonly number[] } {
  if (ArrayBuffer.isView(given)) return { data: given, dims: inferDims(input, given.length) };
  if (!Array.isArray(given)) return given as Tensor;
  const { data, dims } = fromNested(input, given as Nested, (length) => new array(length));
  return { data, dims: dims ?? inferDims(input, data.length) };
}

function checked(input: TensorSpec, tensor: TypedTensor): TypedTensor {
  checkDims(input, tensor.dims);
  return tensor;
}

function kindOf({ name, dtype }: TensorSpec): NonNullable<ReturnType<typeof elementKind>> {
  const kind = elementKind(dtype);
  if (kind === undefined) throw new InputError(`'${name}' holds ${dtype}, which this SDK cannot carry yet`);
  return kind;
}

/** Fills in the one open dimension from the number of values. */
function inferDims(input: TensorSpec, length: number): number[] {
  const open = input.dims.filter((dim) => dim < 0).length;
  const fixed = sizeOf(input.dims.filter((dim) => dim >= 0));
  if (open > 1)
    throw new InputError(`input '${input.name}' is ${show(input)}: give { data, dims }, the shape cannot be told`);
  if (open === 0) return [...input.dims];
  if (length === 0 || length % fixed !== 0) {
    throw new InputError(`input '${input.name}' is ${show(input)}: ${length} values are not a multiple of ${fixed}`);
  }
  return input.dims.map((dim) => (dim < 0 ? length / fixed : dim));
}

function checkDims(input: TensorSpec, dims: readonly number[]): void {
  const fits =
    dims.length === input.dims.length &&
    dims.every((dim, axis) => {
      const wanted = input.dims[axis] ?? -1;
      return Number.isSafeInteger(dim) && dim > 0 && (wanted < 0 || wanted === dim);
    });
  if (!fits) throw new InputError(`input '${input.name}' is ${show(input)}, not [${dims.join(', ')}]`);
}

const typeName = (value: unknown): string =>
  ArrayBuffer.isView(value) || Array.isArray(value) ? value.constructor.name : typeof value;

import { elementKind, zeros, type Tensor, type TensorData } from '@commonweight/client-sdk';
import type { TensorSpec } from '@commonweight/core';
import { UsageError } from '../output/failure.ts';

/** What a JSON file gives for a model's inputs: an object of arrays by name, or one array where there is one input. */
export function inputsFrom(json: unknown, specs: readonly TensorSpec[]): Record<string, TensorData | Tensor> {
  const [only] = specs;
  if (Array.isArray(json)) {
    if (specs.length === 1 && only !== undefined) return { [only.name]: typed(json, only) };
    throw new UsageError(
      `the model has ${specs.length} inputs: give an object with ${specs.map((spec) => spec.name).join(', ')}`,
    );
  }
  if (typeof json !== 'object' || json === null)
    throw new UsageError('the input is neither an array nor an object of arrays');
  return Object.fromEntries(
    Object.entries(json).map(([name, value]) => {
      const spec = specs.find((one) => one.name === name);
      if (spec === undefined)
        throw new UsageError(`the model has no input '${name}': it has ${specs.map((one) => one.name).join(', ')}`);
      return [name, typed(value, spec)];
    }),
  );
}

/** Values of one input; with their shape where it could not be told from how many there are. */
function typed(value: unknown, { name, dtype, dims }: TensorSpec): TensorData | Tensor {
  const flat: unknown[] = Array.isArray(value) ? value.flat(Infinity) : [value];
  const wanted = dtype === 'string' ? 'string' : 'number';
  const values = dtype === 'bool' ? flat.map((item) => (typeof item === 'boolean' ? Number(item) : item)) : flat;
  const wrong = values.find((item) => typeof item !== wanted);
  if (wrong !== undefined) {
    const what = wanted === 'string' ? 'no text' : 'not a number';
    throw new UsageError(`input '${name}' holds ${JSON.stringify(wrong)}, which is ${what}`);
  }
  const kind = elementKind(dtype);
  if (kind === undefined) throw new UsageError(`input '${name}' is of type ${dtype}, which cannot be given here`);
  const data = zeros(kind, values.length);
  const isLarge = data instanceof BigInt64Array || data instanceof BigUint64Array;
  values.forEach((item, index) => {
    if (isLarge && !Number.isSafeInteger(item)) {
      throw new UsageError(`input '${name}' holds ${item as number}, which is no whole number up to 2^53`);
    }
    (data as unknown[])[index] = isLarge ? BigInt(item as number) : item;
  });
  if (dims.filter((dim) => dim < 0).length <= 1) return data;
  return { data, dims: nesting(value) };
}

/** Lengths of nested arrays, the outermost first. */
const nesting = (value: unknown): number[] => (Array.isArray(value) ? [value.length, ...nesting(value[0])] : []);

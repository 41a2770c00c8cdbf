import type { Inputs, TypedArray } from '@commonweight/client-sdk';
import type { TensorSpec } from '@commonweight/core';
import { UsageError } from '../output/failure.ts';

/** What a JSON file gives for a model's inputs: an object of arrays by name, or one array where there is one input. */
export function inputsFrom(json: unknown, specs: readonly TensorSpec[]): Inputs {
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

function typed(value: unknown, { name, dtype }: TensorSpec): TypedArray {
  const flat: unknown[] = Array.isArray(value) ? value.flat(Infinity) : [value];
  const wrong = flat.find((item) => typeof item !== 'number');
  if (wrong !== undefined)
    throw new UsageError(`input '${name}' holds ${JSON.stringify(wrong)}, which is not a number`);
  const numbers = flat as number[];
  if (dtype === 'int64') return BigInt64Array.from(numbers, BigInt);
  if (dtype === 'int32') return Int32Array.from(numbers);
  if (dtype === 'uint8') return Uint8Array.from(numbers);
  if (dtype === 'double') return Float64Array.from(numbers);
  return Float32Array.from(numbers);
}

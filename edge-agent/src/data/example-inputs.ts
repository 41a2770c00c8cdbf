import { elementKind, type TypedTensor } from '@commonweight/client-sdk';
import type { TensorSpec } from '@commonweight/core';
import { bindInputs } from './bind.ts';
import { DataError, subset, type Dataset } from './dataset.ts';

/** Some examples of a set as an app gives them to a model. Throws DataError where they do not fit its inputs. */
export function exampleInputs(
  data: Dataset,
  inputs: readonly TensorSpec[],
  indices: readonly number[],
): Record<string, TypedTensor> {
  const shapes = inputs.map(({ name, dtype, dims }) => ({ name, dtype: inApp(dtype), shape: dims.slice(1) }));
  const found = bindInputs(subset(data, indices), shapes);
  return Object.fromEntries(
    found.map(({ name, shape, values }, at) => {
      const kind = elementKind(inputs[at]!.dtype);
      if (kind === undefined) throw new DataError(`input '${name}' holds ${inputs[at]!.dtype}, which apps cannot give`);
      return [name, { type: kind.type, data: values as TypedTensor['data'], dims: [indices.length, ...shape] }];
    }),
  );
}

/** Apps have halves as floats, and the runtime rounds them. */
const inApp = (dtype: string): string => (dtype === 'float16' ? 'float' : dtype);

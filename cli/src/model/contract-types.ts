import { elementKind } from '@commonweight/client-sdk';
import type { TensorSpec } from '@commonweight/core';

/** What an app relies on, of one version of a model. */
export interface NamedContract {
  model: string;
  version: number;
  inputs: readonly TensorSpec[];
  outputs: readonly TensorSpec[];
}

/**
 * A TypeScript declaration of a model's inputs and outputs, for `client.model<Digits>('digits')`. Names and shapes that
 * the app does not know are errors when it is compiled.
 */
export function contractTypes({ model, version, inputs, outputs }: NamedContract): string {
  const input = (spec: TensorSpec): string => {
    const tensor = tensorType(spec);
    // Where one size at most is open, the number of values tells the shape.
    const canTell = spec.dims.filter((dim) => dim < 0).length <= 1;
    const values = canTell ? `${arrayType(spec)} | ${tensor}` : tensor;
    return `${values} | Nested${isImage(spec) ? ' | Pixels | ImageInput | readonly (Pixels | ImageInput)[]' : ''}`;
  };
  const fields = (specs: readonly TensorSpec[], type: (spec: TensorSpec) => string): string =>
    specs.map((spec) => `    /** ${show(spec)} */\n    ${JSON.stringify(spec.name)}: ${type(spec)};\n`).join('');
  const imports = inputs.some(isImage) ? ['ImageInput', 'Nested', 'Pixels'] : ['Nested'];
  return (
    `// The contract of '${model}', version ${version}: made by \`commonweight model types\`, not by hand.\n` +
    `import type { ${imports.join(', ')} } from '@commonweight/client-sdk';\n\n` +
    `export interface ${typeName(model)} {\n` +
    `  inputs: {\n${fields(inputs, input)}  };\n` +
    `  outputs: {\n${fields(outputs, tensorType)}  };\n` +
    `}\n`
  );
}

/** `digit-images_2` is `DigitImages2`; a name that begins with a digit gets an M before it. */
function typeName(model: string): string {
  const words = model.split(/[^A-Za-z0-9]+/).filter((word) => word !== '');
  const name = words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join('');
  return /^[A-Za-z]/.test(name) ? name : `M${name}`;
}

/** Whether an image may be given: values and shapes that one can have. */
const isImage = ({ dtype, dims }: TensorSpec): boolean =>
  ['float', 'double', 'uint8'].includes(dtype) && dims.length >= 2 && dims.length <= 4;

function arrayType({ dtype }: TensorSpec): string {
  if (dtype === 'string') return 'string[]';
  return elementKind(dtype)?.array.name ?? 'never';
}

function tensorType(spec: TensorSpec): string {
  const dims = spec.dims.map((dim) => (dim < 0 ? 'number' : String(dim)));
  return `{ data: ${arrayType(spec)}; dims: readonly [${dims.join(', ')}] }`;
}

const show = ({ dtype, dims }: TensorSpec): string =>
  `${dtype}[${dims.map((dim) => (dim < 0 ? 'batch' : dim)).join(', ')}]`;

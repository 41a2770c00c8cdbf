import type { TensorContract } from '@commonweight/proto';
import type { TensorSpec } from '@commonweight/core';

/** What an app may rely on: the inputs it gives and the outputs it gets. */
export interface Contract {
  inputs: readonly TensorSpec[];
  outputs: readonly TensorSpec[];
}

/** The contract in a manifest. */
export function contractIn(manifest: { inputs: TensorContract[]; outputs: TensorContract[] }): Contract {
  const spec = ({ name, dtype, dims, symbols }: TensorContract): TensorSpec => ({
    name,
    dtype,
    dims: dims.map(Number),
    ...(symbols.length === 0 ? {} : { symbols }),
  });
  return { inputs: manifest.inputs.map(spec), outputs: manifest.outputs.map(spec) };
}

/** Why code written for `before` would fail with `after`, or undefined where it would not. More outputs and wider inputs are fine. */
export function contractBreak(before: Contract, after: Contract): string | undefined {
  for (const input of after.inputs) {
    const known = before.inputs.find(({ name }) => name === input.name);
    if (known === undefined) return `input '${input.name}' is new`;
    if (!accepts(input, known)) return `input '${input.name}' was ${show(known)} and is ${show(input)}`;
  }
  for (const input of before.inputs) {
    if (!after.inputs.some(({ name }) => name === input.name)) return `input '${input.name}' is gone`;
  }
  for (const output of before.outputs) {
    const kept = after.outputs.find(({ name }) => name === output.name);
    if (kept === undefined) return `output '${output.name}' is gone`;
    if (!same(output, kept)) return `output '${output.name}' was ${show(output)} and is ${show(kept)}`;
  }
  return undefined;
}

/** Whether an input takes all that another one took: a size that was fixed may have become open. */
const accepts = (after: TensorSpec, before: TensorSpec): boolean =>
  after.dtype === before.dtype &&
  after.dims.length === before.dims.length &&
  after.dims.every((dim, axis) => dim < 0 || dim === before.dims[axis]);

const same = (a: TensorSpec, b: TensorSpec): boolean => show(a) === show(b);

/** `float[?, 784]`. */
export const show = ({ dtype, dims }: TensorSpec): string =>
  `${dtype}[${dims.map((dim) => (dim < 0 ? '?' : dim)).join(', ')}]`;

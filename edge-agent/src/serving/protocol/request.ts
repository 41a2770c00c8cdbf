import { quoted, ServingError } from '../errors.ts';
import { AXES_MAX, TENSORS_MAX, TEXT_LENGTH_MAX } from '../limits.ts';
import type { WireTensor } from './datatypes.ts';

export interface NamedTensor extends WireTensor {
  name: string;
}

/** One request for a prediction, however it came. */
export interface InferRequest {
  id: string;
  inputs: readonly NamedTensor[];
  /** Names of the outputs that are wanted; all where there are none. */
  outputs: readonly string[];
}

/** One prediction, before it is written in one form or the other. */
export interface InferAnswer {
  model: string;
  version: number;
  id: string;
  outputs: readonly NamedTensor[];
}

/** Sizes of a tensor as whole numbers. */
export function checkedShape(shape: readonly unknown[], of: string): number[] {
  if (shape.length > AXES_MAX)
    throw new ServingError('wrong-input', `${of} has ${shape.length} axes, at most ${AXES_MAX} are taken`);
  if (!isShape(shape)) {
    throw new ServingError('wrong-input', `the shape of ${of} is not of whole numbers from 1 on`);
  }
  return [...shape];
}

const isShape = (shape: readonly unknown[]): shape is readonly number[] =>
  shape.every((dim) => Number.isSafeInteger(dim) && (dim as number) >= 1);

/** Throws where there are too many, too long or doubled names. */
export function checkNames(names: readonly string[], what: 'input' | 'output'): void {
  const reason = `wrong-${what}` as const;
  if (names.length > TENSORS_MAX) {
    throw new ServingError(reason, `${names.length} ${what}s are named, at most ${TENSORS_MAX} are taken`);
  }
  const seen = new Set<string>();
  for (const name of names) {
    if (name.length > TEXT_LENGTH_MAX)
      throw new ServingError(reason, `the name of ${what} ${quoted(name)} is too long`);
    if (seen.has(name)) throw new ServingError(reason, `${what} ${quoted(name)} is named twice`);
    seen.add(name);
  }
}

export function checkId(id: string): string {
  if (id.length <= TEXT_LENGTH_MAX) return id;
  throw new ServingError('bad-request', `the id is ${id.length} characters long, at most ${TEXT_LENGTH_MAX} are taken`);
}

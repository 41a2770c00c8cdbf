import { InputError, ModelError } from '../errors.ts';
import { sizeOf, type Feeds, type Tensor, type TensorData, type TypedTensor } from '../runtime/tensor.ts';
import type { Contract } from './contract.ts';

/** Rows of one run, for all that is asked together. */
export const ROWS_MAX = 4_096;

/** Several inputs as one of more rows, and how many rows each has. Throws InputError where a model takes no rows. */
export function joinedFeeds(
  contract: Contract,
  all: readonly Feeds[],
): { feeds: Record<string, TypedTensor>; rows: number[] } {
  const isOpen = [...contract.inputs, ...contract.outputs].every(({ dims }) => (dims[0] ?? 0) < 0);
  if (!isOpen) throw new InputError('this model takes one example at a time: its first dimension is not open');
  const rows = all.map((feeds) => rowsOf(feeds));
  const total = rows.reduce((sum, count) => sum + count, 0);
  if (total > ROWS_MAX) throw new InputError(`${total} rows are too many at once: ask for up to ${ROWS_MAX}`);
  const tensors = contract.inputs.map(({ name }): [string, TypedTensor] => {
    const parts = all.map((feeds) => feeds[name]!);
    const [first] = parts as [TypedTensor];
    const rest = first.dims.slice(1);
    if (parts.some(({ dims }) => String(dims.slice(1)) !== String(rest)))
      throw new InputError(`input '${name}' has other sizes in one example than in another: ask for them one by one`);
    const data = joined(
      parts.map((part) => part.data),
      total * sizeOf(rest),
    );
    return [name, { type: first.type, data, dims: [total, ...rest] }];
  });
  return { feeds: Object.fromEntries(tensors), rows };
}

/** Values of one kind, one after the other. */
function joined(parts: readonly TensorData[], length: number): TensorData {
  const [first] = parts;
  if (!ArrayBuffer.isView(first)) return (parts as readonly string[][]).flat();
  const data = new (first.constructor as new (length: number) => Float32Array)(length);
  let at = 0;
  for (const part of parts) {
    data.set(part as Float32Array, at);
    at += part.length;
  }
  return data;
}

function rowsOf(feeds: Feeds): number {
  const counts = new Set(Object.values(feeds).map(({ dims }) => dims[0] ?? 1));
  const [count] = counts;
  if (count === undefined || counts.size > 1)
    throw new InputError('the inputs of one example have other numbers of rows');
  return count;
}

/** The outputs of each, by their rows. */
export function splitOutputs(outputs: Record<string, Tensor>, rows: readonly number[]): Record<string, Tensor>[] {
  const total = rows.reduce((sum, count) => sum + count, 0);
  const starts = rows.map((_, i) => rows.slice(0, i).reduce((sum, count) => sum + count, 0));
  return rows.map((count, i) =>
    Object.fromEntries(
      Object.entries(outputs).map(([name, { data, dims }]): [string, Tensor] => {
        if (dims[0] !== total) throw new ModelError(`output '${name}' has ${dims[0]} rows for ${total}`);
        const size = data.length / total;
        return [
          name,
          { data: data.slice(starts[i]! * size, (starts[i]! + count) * size), dims: [count, ...dims.slice(1)] },
        ];
      }),
    ),
  );
}

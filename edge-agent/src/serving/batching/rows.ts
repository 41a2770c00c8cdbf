/** Requests are joined along their first dimension and their answers taken apart again. */
import type { Tensor, TensorData } from '@commonweight/client-sdk';

export type Tensors = Readonly<Record<string, Tensor>>;

/** The common length of the first dimension; undefined where there is none. */
export function rowsOf(tensors: Tensors): number | undefined {
  const [first, ...others] = Object.values(tensors).map(({ dims }) => dims[0]);
  return others.every((rows) => rows === first) ? first : undefined;
}

/** All that must be equal for two requests to run as one: names, and every dimension but the first. */
export const shapeKey = (tensors: Tensors): string =>
  Object.keys(tensors)
    .sort()
    .map((name) => `${name}:${tensors[name]!.dims.slice(1).join('x')}`)
    .join('|');

/** One after the other. They have equal names and equal dimensions but the first. */
export function joinRows(requests: readonly Tensors[]): Record<string, Tensor> {
  const [first] = requests;
  if (first === undefined || requests.length === 1) return { ...first };
  return Object.fromEntries(
    Object.entries(first).map(([name, { data, dims }]) => {
      const parts = requests.map((request) => request[name]!);
      const joined = empty(
        data,
        parts.reduce((length, part) => length + part.data.length, 0),
      );
      let [offset, rows] = [0, 0];
      for (const part of parts) {
        put(part.data, joined, offset);
        offset += part.data.length;
        rows += part.dims[0]!;
      }
      return [name, { data: joined, dims: [rows, ...dims.slice(1)] }];
    }),
  );
}

/** Outputs by request, or undefined where an output has not one row for each row that went in. */
export function splitRows(outputs: Tensors, counts: readonly number[]): Record<string, Tensor>[] | undefined {
  const total = counts.reduce((sum, rows) => sum + rows, 0);
  if (!Object.values(outputs).every(({ dims }) => dims[0] === total)) return undefined;
  let start = 0;
  return counts.map((rows) => {
    const end = start + rows;
    const part = Object.entries(outputs).map(([name, { data, dims }]): [string, Tensor] => {
      const size = data.length / total;
      return [name, { data: data.slice(start * size, end * size), dims: [rows, ...dims.slice(1)] }];
    });
    start = end;
    return Object.fromEntries(part);
  });
}

function empty(like: TensorData, length: number): TensorData {
  return new (like.constructor as new (length: number) => TensorData)(length);
}

function put(from: TensorData, to: TensorData, offset: number): void {
  if (ArrayBuffer.isView(from)) (to as Float32Array).set(from as Float32Array, offset);
  else from.forEach((text, index) => ((to as string[])[offset + index] = text));
}

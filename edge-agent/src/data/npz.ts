import type { TypedArray } from '@commonweight/client-sdk';
import { float16Value } from '@commonweight/core';
import { DataError, sizeOf, type Column, type Dataset } from './dataset.ts';
import { readBytes } from './read-text.ts';
import { filesInZip } from './zip.ts';

/** NumPy's arrays by name, as `np.savez(FILE, input=x, label=y)` writes them: the first axis is the examples. */
export async function readNpz(path: string): Promise<Omit<Dataset, 'label'>> {
  return parseNpz(await readBytes(path), path);
}

export function parseNpz(bytes: Uint8Array, path: string): Omit<Dataset, 'label'> {
  const columns = [...filesInZip(bytes, path)].map(([file, content]) => {
    const name = file.replace(/\.npy$/, '');
    return arrayIn(content, name, path);
  });
  const [first, ...others] = columns;
  if (first === undefined) throw new DataError(`${path} has no arrays: write some with np.savez`);
  const odd = others.find(({ examples }) => examples !== first.examples);
  if (odd !== undefined) {
    throw new DataError(
      `${path} has ${first.examples} examples in "${first.column.name}" and ${odd.examples} in "${odd.column.name}": all arrays have the examples first`,
    );
  }
  if (first.examples === 0) throw new DataError(`${path} has no examples: give arrays that are not empty`);
  return { source: path, examples: first.examples, columns: columns.map(({ column }) => column) };
}

interface ElementRow {
  bytes: number;
  array: new (buffer: ArrayBuffer) => TypedArray;
}

/** By NumPy's kind and size of an element. */
const elements: Readonly<Record<string, ElementRow>> = {
  f4: { bytes: 4, array: Float32Array },
  f8: { bytes: 8, array: Float64Array },
  i1: { bytes: 1, array: Int8Array },
  i2: { bytes: 2, array: Int16Array },
  i4: { bytes: 4, array: Int32Array },
  i8: { bytes: 8, array: BigInt64Array },
  u1: { bytes: 1, array: Uint8Array },
  u2: { bytes: 2, array: Uint16Array },
  u4: { bytes: 4, array: Uint32Array },
  u8: { bytes: 8, array: BigUint64Array },
  b1: { bytes: 1, array: Uint8Array },
  // Halves, which are made floats.
  f2: { bytes: 2, array: Uint16Array },
};

const MAGIC = '\u0093NUMPY';

/** Source: NumPy's format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, versions 1 to 3. */
function arrayIn(bytes: Uint8Array, name: string, path: string): { column: Column; examples: number } {
  const where = `array "${name}" of ${path}`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const latin = (from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString('latin1');
  if (bytes.length < 12 || latin(0, 6) !== MAGIC)
    throw new DataError(`${where} is no NumPy array: write it with np.savez`);
  const [lengthBytes, length] = view.getUint8(6) === 1 ? [2, view.getUint16(8, true)] : [4, view.getUint32(8, true)];
  const start = 8 + lengthBytes + length;
  const header = latin(8 + lengthBytes, start);
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1] ?? 'a record';
  const dims = (/'shape':\s*\(([^)]*)\)/.exec(header)?.[1] ?? '')
    .split(',')
    .filter((size) => size.trim() !== '')
    .map(Number);
  const [, order = '', kind = ''] = /^([<>|=])(\w\d+)$/.exec(descr) ?? [];
  const row = Object.hasOwn(elements, kind) ? elements[kind] : undefined;
  if (row === undefined || (order === '>' && row.bytes > 1)) {
    throw new DataError(`${where} is of type ${descr}: save it as little-endian numbers, such as x.astype('float32')`);
  }
  if (/'fortran_order':\s*True/.test(header))
    throw new DataError(`${where} lies in Fortran's order: save np.ascontiguousarray(x)`);
  const [examples, ...shape] = dims;
  if (examples === undefined) throw new DataError(`${where} is a single value: its first axis must be the examples`);
  const wanted = sizeOf(dims) * row.bytes;
  if (bytes.length - start !== wanted) {
    throw new DataError(
      `${where} has ${bytes.length - start} bytes where its shape [${dims.join(', ')}] needs ${wanted}: write it again`,
    );
  }
  // A copy: views of 8 bytes must begin at a multiple of 8.
  const values = new row.array(new Uint8Array(bytes.subarray(start)).buffer);
  const isHalf = kind === 'f2';
  return {
    column: { name, shape, values: isHalf ? Float32Array.from(values as Uint16Array, float16Value) : values },
    examples,
  };
}

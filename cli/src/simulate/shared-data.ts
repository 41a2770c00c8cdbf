import type { Column, Dataset } from '@commonweight/edge-agent';

/** The same bytes in memory that all threads read. */
export function sharedBytes(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new SharedArrayBuffer(bytes.length));
  copy.set(bytes);
  return copy;
}

/** The same examples, their numbers in memory that all threads read; each thread has texts of its own. */
export function sharedData(data: Dataset): Dataset {
  return { ...data, columns: data.columns.map((column) => ({ ...column, values: sharedValues(column.values) })) };
}

function sharedValues(values: Column['values']): Column['values'] {
  if (!ArrayBuffer.isView(values)) return values;
  const room = new SharedArrayBuffer(values.byteLength);
  const copy = new (values.constructor as new (room: SharedArrayBuffer) => typeof values)(room);
  (copy as Float32Array).set(values as Float32Array);
  return copy;
}

import { CodecError } from '../errors.ts';
import type { ReadValues, StoredPayload, ValueEncoding } from './encoding.ts';
import type { GridSpec } from './grid.ts';

/** What is the same for all encodings that give every value the same number of bits. */
export function dense(
  kind: Pick<ValueEncoding, 'name' | 'byteLength' | 'exponentBytes' | 'encode'> & {
    /** What a payload says, once its size is known to be right. */
    valuesIn(payload: Uint8Array, length: number, grid: GridSpec): Float32Array;
  },
): ValueEncoding {
  const { name, byteLength, exponentBytes, encode } = kind;
  const requireSize = (bytes: number, length: number): void => {
    if (bytes === byteLength(length)) return;
    throw new CodecError(`a payload of ${length} values in ${name} has ${byteLength(length)} bytes, this one ${bytes}`);
  };
  const decode = (payload: Uint8Array, length: number, grid: GridSpec): Float32Array => {
    requireSize(payload.length, length);
    return kind.valuesIn(payload, length, grid);
  };
  const elementsAt = (start: number): number => byteLength(start) - exponentBytes(start);
  const open = ({ bytes, read }: StoredPayload, length: number, grid: GridSpec): ReadValues => {
    requireSize(bytes, length);
    return (start, end) => {
      // Exponents and elements of a range, one after the other, are the payload of its values.
      const payload = new Uint8Array(byteLength(end - start));
      const exponents = payload.subarray(0, exponentBytes(end - start));
      read(exponents, exponentBytes(start));
      read(payload.subarray(exponents.length), exponentBytes(length) + elementsAt(start));
      return decode(payload, end - start, grid);
    };
  };
  const sizes = { byteLength, exponentBytes, bytesMin: byteLength, bytesMax: byteLength };
  return { name, values: name, sends: 'all', ...sizes, encode, decode, open };
}

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { DataError } from './dataset.ts';
import { parseNpz } from './npz.ts';

const vectors = JSON.parse(readFileSync(join(import.meta.dirname, 'vectors/npz.json'), 'utf8')) as Record<
  string,
  string
>;
const bytesOf = (name: string): Uint8Array => new Uint8Array(Buffer.from(vectors[name]!, 'base64'));
const read = (name: string): ReturnType<typeof parseNpz> => parseNpz(bytesOf(name), 'f.npz');

test.each(['savez', 'savez_compressed'])('what NumPy wrote with %s is read, name by name and type by type', (name) => {
  expect(read(name)).toEqual({
    source: 'f.npz',
    examples: 2,
    columns: [
      { name: 'x', shape: [3, 2], values: Float32Array.from({ length: 12 }, (_, i) => i / 4) },
      { name: 'tokens', shape: [2], values: BigInt64Array.of(1n, 2n, 3n, 2n ** 60n) },
      { name: 'half', shape: [], values: Float32Array.of(1.5, -2) },
      { name: 'yes', shape: [], values: Uint8Array.of(1, 0) },
      { name: 'label', shape: [], values: Uint8Array.of(0, 2) },
    ],
  });
});

test.each([
  ['fortran', /"x" of f\.npz lies in Fortran's order/],
  ['odd', /has 2 examples in "x" and 3 in "y"/],
  ['text', /"x" of f\.npz is of type <U1: save it as little-endian numbers/],
  ['big', /is of type >f4/],
  ['scalar', /is a single value: its first axis must be the examples/],
])('%s is refused by what is wrong', (name, message) => {
  expect(() => read(name)).toThrow(message);
});

test('an archive that is cut short or damaged anywhere is refused, and nothing else happens', () => {
  const whole = bytesOf('savez_compressed');
  for (let length = 0; length < whole.length; length += 7) {
    expect(() => parseNpz(whole.slice(0, length), 'f.npz')).toThrow(DataError);
  }
  for (let at = 0; at < whole.length; at += 3) {
    const damaged = whole.slice();
    damaged[at]! ^= 0x41;
    try {
      parseNpz(damaged, 'f.npz');
    } catch (error) {
      expect(error).toBeInstanceOf(DataError);
    }
  }
});

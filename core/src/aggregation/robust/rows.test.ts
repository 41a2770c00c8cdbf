import fc from 'fast-check';
import { expect, test } from 'vitest';
import { seeded } from '../../random/stream.ts';
import { plainRows } from './plain-rows.ts';
import { sortingNetwork, type Rows } from './rows.ts';
import { wasmRows } from './wasm-rows.ts';

const WIDTH = 36;

const filled = (rows: Rows, seed: number): Rows => {
  const random = seeded(seed);
  // Many equal values, both zeros, and magnitudes far apart.
  const draw = (): number => Math.round(random.normal() * 2) * 2 ** (random.integer(60) - 30);
  rows.values.set(Float32Array.from(rows.values, draw));
  return rows;
};

test('the network sorts: every sequence of zeros and ones up to twelve long, which is enough for all of that length', () => {
  for (let count = 1; count <= 12; count++) {
    const network = sortingNetwork(count);
    for (let bits = 0; bits < 2 ** count; bits++) {
      const values = Array.from({ length: count }, (_, i) => (bits >> i) & 1);
      for (let c = 0; c < network.length; c += 2) {
        const [low, high] = [network[c]!, network[c + 1]!];
        const [a, b] = [values[low]!, values[high]!];
        values[low] = Math.min(a, b);
        values[high] = Math.max(a, b);
      }
      expect(values).toEqual(values.toSorted((a, b) => a - b));
    }
  }
});

test('columns are sorted, -0 below 0, whatever the number of rows', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 70 }), fc.nat(), (count, seed) => {
      const rows = filled(plainRows(count, WIDTH), seed);
      const column = (i: number): number[] => Array.from({ length: count }, (_, row) => rows.values[row * WIDTH + i]!);
      const before = Array.from({ length: WIDTH }, (_, i) => column(i));
      rows.sortColumns();
      const rank = (a: number, b: number): number => a - b || Number(Object.is(b, -0)) - Number(Object.is(a, -0));
      for (const [i, values] of before.entries()) expect(column(i)).toEqual(values.toSorted(rank));
    }),
    { numRuns: 30 },
  );
});

test('the kernels and their plain twin agree bit for bit', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 70 }), fc.nat(), (count, seed) => {
      const plain = filled(plainRows(count, WIDTH), seed);
      const wasm = filled(wasmRows(count, WIDTH)!, seed);
      for (const rows of [plain, wasm]) {
        // Twice: the matrix is added to.
        rows.addSquaredDistances();
        rows.addSquaredDistances();
      }
      expect(wasm.squaredDistances).toEqual(plain.squaredDistances);
      plain.sortColumns();
      wasm.sortColumns();
      expect(wasm.values).toEqual(plain.values);
    }),
    { numRuns: 30 },
  );
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { positionBytesMax, readPositions, writePositions } from './positions.ts';
import { SPARSE_BLOCK } from './sparse-frame.ts';

const read = (bytes: Uint8Array, length: number): number[] | undefined => {
  const into = new Uint16Array(SPARSE_BLOCK);
  const count = readPositions(bytes, length, into);
  return count === -1 ? undefined : [...into.subarray(0, count)];
};

/** Which of up to 3,000 values are there: few, half of them, most. */
const chosen = fc
  .record({ length: fc.integer({ min: 1, max: 3000 }), share: fc.constantFrom(0, 0.003, 0.1, 0.5, 1), seed: fc.nat() })
  .map(({ length, share, seed }) => {
    const all = Uint16Array.from({ length }, (_, i) => i);
    return { length, positions: all.filter((i) => ((i * 2654435761 + seed) >>> 0) / 2 ** 32 < share) };
  });

test('positions come back, in no more bytes than are promised', () => {
  fc.assert(
    fc.property(chosen, ({ length, positions }) => {
      const bytes = writePositions(positions, length);
      expect(bytes.length).toBeLessThanOrEqual(positionBytesMax(length, positions.length));
      expect(read(bytes, length)).toEqual([...positions]);
    }),
  );
});

test('any bytes are positions in strict order within the block, or none', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: SPARSE_BLOCK }), fc.uint8Array({ maxLength: 1030 }), (length, bytes) => {
      const positions = read(bytes, length);
      if (positions === undefined) return;
      expect(positions.every((position, i) => i === 0 || position > positions[i - 1]!)).toBe(true);
      expect(positions.every((position) => position < length)).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test('the largest block, whole', () => {
  const all = Uint16Array.from({ length: SPARSE_BLOCK }, (_, i) => i);
  expect(read(writePositions(all, SPARSE_BLOCK), SPARSE_BLOCK)).toEqual([...all]);
});

describe('bytes that are no positions', () => {
  test.each([
    ['more bytes than a bitmap has', new Uint8Array(5), 32],
    ['a bit beyond the end', Uint8Array.of(0, 0x40), 14],
    ['a gap beyond the end', Uint8Array.of(30, 2), 33],
    ['a gap that nothing follows', Uint8Array.of(1, 255), 4096],
    ['gaps that only skip', new Uint8Array(40).fill(255), 8192],
  ])('%s', (_, bytes, length) => expect(read(bytes, length)).toBeUndefined());
});

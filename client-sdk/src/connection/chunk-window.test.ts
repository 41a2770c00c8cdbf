import fc from 'fast-check';
import { expect, test } from 'vitest';
import { chunksAhead, ChunkWindow } from './chunk-window.ts';

const CHUNK_BYTES = 10;

/** All that comes, joined. */
async function joined(
  blob: Uint8Array,
  from: number,
  lengthOf: (offset: number) => number,
  { signal = new AbortController().signal, size = Infinity } = {},
): Promise<{ bytes: number[]; asked: number[]; atOnce: number }> {
  const [bytes, asked]: [number[], number[]] = [[], []];
  let [underWay, atOnce] = [0, 0];
  const ask = async (offset: number) => {
    asked.push(offset);
    atOnce = Math.max(atOnce, (underWay += 1));
    await new Promise((resolve) => setTimeout(resolve, 1));
    underWay -= 1;
    return { data: blob.subarray(offset, offset + lengthOf(offset)), totalSize: blob.length };
  };
  for await (const chunk of chunksAhead(ask, { from, size, chunkBytes: CHUNK_BYTES, signal })) {
    expect(chunk).toMatchObject({ offset: from + bytes.length, totalSize: blob.length });
    bytes.push(...chunk.data);
  }
  return { bytes, asked, atOnce };
}

test('the chunks are the blob from there on, in order, whatever lengths they come in', async () => {
  const blobs = fc.record({ blob: fc.uint8Array({ minLength: 1, maxLength: 300 }), seed: fc.nat(), from: fc.nat(299) });
  await fc.assert(
    fc.asyncProperty(blobs, async ({ blob, seed, from: wanted }) => {
      const from = Math.min(wanted, blob.length - 1);
      const lengthOf = (offset: number): number => 1 + ((offset * 7919 + seed) % CHUNK_BYTES);
      expect((await joined(blob, from, lengthOf)).bytes).toEqual([...blob.subarray(from)]);
    }),
    { numRuns: 50 },
  );
});

test('quick chunks are asked for many at once, each once', async () => {
  const blob = Uint8Array.from({ length: 605 }, (_, i) => i % 251);
  const { bytes, asked, atOnce } = await joined(blob, 0, () => CHUNK_BYTES);
  expect(bytes).toEqual([...blob]);
  expect(asked.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 61 }, (_, i) => i * CHUNK_BYTES));
  expect(atOnce).toBe(16);
});

test('a server that sends more than was asked for, or says that there is more, misplaces nothing and gets no further question', async () => {
  const blob = Uint8Array.from({ length: 200 }, (_, i) => i);
  const longer = (offset: number): number => (offset % 20 === 0 ? CHUNK_BYTES + 3 : CHUNK_BYTES);
  expect((await joined(blob, 0, longer)).bytes.slice(0, 200)).toEqual([...blob]);
  const { asked } = await joined(blob, 0, () => CHUNK_BYTES, { size: 55 });
  expect(Math.max(...asked)).toBe(50);
});

test('an empty chunk or an abort ends it', async () => {
  expect((await joined(new Uint8Array(95), 0, (offset) => (offset < 50 ? CHUNK_BYTES : 0))).bytes.length).toBe(50);
  expect((await joined(new Uint8Array(95), 0, () => CHUNK_BYTES, { signal: AbortSignal.abort() })).asked).toEqual([]);
});

test('slow chunks are fewer at once', () => {
  const window = new ChunkWindow();
  for (const tookMs of [1, 1, 1, 1, 1]) window.passed(tookMs);
  expect(window.size).toBe(16);
  window.passed(1_000);
  expect(window.size).toBe(16);
  for (const tookMs of [3_000, 3_000, 3_000, 3_000, 3_000]) window.passed(tookMs);
  expect(window.size).toBe(1);
});

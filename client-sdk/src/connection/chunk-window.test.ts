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

test('the next chunk is asked for as soon as one is there, not when all are', async () => {
  const answers = Array.from({ length: 100 }, () => Promise.withResolvers<{ data: Uint8Array; totalSize: number }>());
  let asked = 0;
  const ask = (offset: number) => {
    asked += 1;
    return answers[offset / CHUNK_BYTES]!.promise;
  };
  const { signal } = new AbortController();
  const chunks = chunksAhead(ask, { from: 0, size: 1000, chunkBytes: CHUNK_BYTES, signal });
  for (let i = 0; i < 60; i++) {
    answers[i]!.resolve({ data: new Uint8Array(CHUNK_BYTES), totalSize: 1000 });
    await chunks.next();
    expect(asked).toBe(Math.min(i + 1 + Math.min(i + 2, 16), 100));
  }
});

test('of many that fail the first is told', async () => {
  let asked = 0;
  const ask = async (offset: number) => {
    asked += 1;
    if (offset >= 100) throw new Error(`no ${offset}`);
    return { data: new Uint8Array(CHUNK_BYTES), totalSize: 1000 };
  };
  const { signal } = new AbortController();
  const all = async (): Promise<void> => {
    for await (const { data } of chunksAhead(ask, { from: 0, size: 1000, chunkBytes: CHUNK_BYTES, signal }))
      expect(data.length).toBe(CHUNK_BYTES);
  };
  await expect(all()).rejects.toThrow('no 100');
  expect(asked).toBeGreaterThan(11);
});

test('slow chunks are fewer at once', () => {
  const window = new ChunkWindow();
  for (let i = 0; i < 20; i++) window.passed(1);
  expect(window.size).toBe(16);
  window.passed(1_000);
  expect(window.size).toBe(16);
  // All of one window halve it once.
  for (let i = 0; i < 16; i++) window.passed(3_000, 16);
  expect(window.size).toBe(8);
  for (const tookMs of [3_000, 3_000, 3_000, 3_000, 3_000]) window.passed(tookMs);
  expect(window.size).toBe(1);
});

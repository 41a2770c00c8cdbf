import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ReadCache } from './read-cache.ts';

const bytesOf = (key: number): Uint8Array => new Uint8Array(key % 5).fill(key);

test('gives what is read, reads again only what was not used lately, and keeps no more than it may', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(9)), async (keys) => {
      const cache = new ReadCache(8);
      const recent: number[] = [];
      for (const key of keys) {
        let wasRead = false;
        const read = async (): Promise<Uint8Array> => ((wasRead = true), bytesOf(key));
        expect(await cache.get(String(key), read)).toEqual(bytesOf(key));
        // The model: the longest run of keys used last that fits.
        expect(wasRead).toBe(!recent.includes(key));
        recent.splice(0, recent.length, ...recent.filter((other) => other !== key), key);
        while (recent.reduce((sum, one) => sum + (one % 5), 0) > 8) recent.shift();
      }
    }),
  );
});

test('reads of the same that come together are one read; one that fails is not kept', async () => {
  const cache = new ReadCache(8);
  const reading = Promise.withResolvers<Uint8Array>();
  let reads = 0;
  const read = (): Promise<Uint8Array> => ((reads += 1), reading.promise);
  const both = Promise.allSettled([cache.get('a', read), cache.get('a', read)]);
  reading.reject(new Error('damaged'));
  expect((await both).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(reads).toBe(1);
  expect(await cache.get('a', async () => bytesOf(3))).toEqual(bytesOf(3));
});

test('of blobs of a few bytes no more are kept than a number', async () => {
  const cache = new ReadCache(1_000_000);
  for (let key = 0; key < 1_000; key++) await cache.get(String(key), async () => bytesOf(1));
  let reads = 0;
  for (let key = 999; key >= 0; key--) await cache.get(String(key), async () => ((reads += 1), bytesOf(1)));
  expect(reads).toBe(1_000 - 256);
});

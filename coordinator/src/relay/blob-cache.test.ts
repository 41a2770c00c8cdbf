import { createHash } from 'node:crypto';
import { readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { BlobCache } from './blob-cache.ts';

/** Room for two and a half of the blobs below. */
const BYTES_MAX = 2_500;
const SIZE = 1_000;

/** What the coordinator has; the number of the blob is all of its bytes. */
const blobOf = (n: number): Uint8Array => new Uint8Array(SIZE).fill(n);
const digestOf = (n: number): Uint8Array => createHash('sha256').update(blobOf(n)).digest();
const nameOf = (n: number): string => Buffer.from(digestOf(n)).toString('hex');

let dir: string;
let fetched: number[];
let cache: BlobCache;
/** What comes in place of what was asked for. */
let worn: ((data: Uint8Array) => Uint8Array) | undefined;
/** Whoever fetches waits for it before the last bytes. */
let held: Promise<void> | undefined;

beforeEach(() => {
  [dir, fetched, worn, held] = [temporaryFolder('blobs'), [], undefined, undefined];
  cache = open();
});
afterEach(() => cache.close());

function open(): BlobCache {
  return new BlobCache({
    dir,
    bytesMax: BYTES_MAX,
    fetch: async function* (digest) {
      const n = [1, 2, 3, 4].find((one) => Buffer.from(digest).equals(digestOf(one)))!;
      fetched.push(n);
      const data = worn?.(blobOf(n)) ?? blobOf(n);
      yield { totalSize: SIZE, data: data.subarray(0, 600) };
      await held;
      yield { totalSize: SIZE, data: data.subarray(600) };
    },
    onFetched: () => {},
  });
}

async function whole(n: number, from = cache): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < SIZE;) {
    const { data, totalSize } = await from.read(digestOf(n), at, 400);
    expect(totalSize).toBe(SIZE);
    parts.push(data);
    at += data.length;
  }
  return Buffer.concat(parts);
}

const kept = (): string[] => readdirSync(dir).filter((name) => !name.endsWith('.part'));
const same = async (n: number, from = cache): Promise<void> =>
  expect(Buffer.from(blobOf(n)).equals(await whole(n, from))).toBe(true);
/** The last bytes are given out before the file has its name. */
const files = (...numbers: number[]): Promise<void> =>
  expect.poll(() => kept().sort()).toEqual(numbers.map(nameOf).sort());

test('the blob that was asked for longest ago goes where there is no room, and is fetched again when somebody asks', async () => {
  await same(1);
  await files(1);
  await same(2);
  await files(1, 2);
  await same(1);
  await same(3);
  await files(1, 3);
  expect(fetched).toEqual([1, 2, 3]);
  await same(1);
  await same(2);
  await files(1, 2);
  expect(fetched).toEqual([1, 2, 3, 2]);
});

test('what was here before the start is not fetched, and goes first, the oldest of it before the others', async () => {
  await same(1);
  await same(2);
  await files(1, 2);
  await cache.close();
  utimesSync(join(dir, nameOf(2)), 1, 1);
  cache = open();
  await same(3);
  await files(1, 3);
  await same(1);
  expect(fetched).toEqual([1, 2, 3]);
});

test('who reads a blob that has to go reads it to its end', async () => {
  await same(1);
  await files(1);
  const { data } = await cache.read(digestOf(1), 0, 10);
  const reading = cache.read(digestOf(1), 10, SIZE);
  await Promise.all([same(2), same(3)]);
  expect(Buffer.concat([data, (await reading).data]).equals(blobOf(1))).toBe(true);
});

test('a blob that still comes does not go, and all who ask get it while it comes', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  held = promise;
  const first = await cache.read(digestOf(1), 0, SIZE);
  expect(first.data.length).toBe(600);
  const rest = [cache.read(digestOf(1), 600, SIZE), cache.read(digestOf(1), 600, SIZE)];
  held = undefined;
  await same(2);
  await same(3);
  resolve();
  for (const { data } of await Promise.all(rest)) expect(data.length).toBe(400);
  expect(fetched).toEqual([1, 2, 3]);
});

test('bytes that are not the blob end in an error for all who wait, and are fetched again', async () => {
  worn = (data) => data.with(700, 9);
  await expect(whole(1)).rejects.toThrow(`what came as blob ${nameOf(1)} is not that blob: try again`);
  expect(kept()).toEqual([]);
  worn = (data) => data.subarray(0, 700);
  await expect(whole(1)).rejects.toThrow(/^blob \w+ (ends too early|went while it was read): try again/);
  worn = undefined;
  await same(1);
  await files(1);
  const { length } = fetched;
  await same(1);
  expect(fetched).toHaveLength(length);
});

test('pieces that a crash left are removed at the start', async () => {
  writeFileSync(join(dir, `${nameOf(1)}.1.part`), 'a piece');
  cache = open();
  expect(readdirSync(dir)).toEqual([]);
});

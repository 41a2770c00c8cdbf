import { mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { sha256 } from '../trust/sha256.ts';
import { BlobCache } from './blob-cache.ts';

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'cw-blobs-'));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const [one, two] = [new TextEncoder().encode('one'), new TextEncoder().encode('two')];

describe.each([
  ['in memory', () => Promise.resolve(new BlobCache())],
  ['on disk', async () => new BlobCache(await folder())],
])('%s', (_, open) => {
  test('a blob is found by its digest', async () => {
    const cache = await open();
    await cache.put(sha256(one), one);
    expect(hex((await cache.get(sha256(one))) ?? new Uint8Array())).toBe(hex(one));
    expect(await cache.get(sha256(two))).toBeUndefined();
  });

  test('only the blobs named are kept', async () => {
    const cache = await open();
    await cache.put(sha256(one), one);
    await cache.put(sha256(two), two);
    await cache.keepOnly([sha256(two)]);
    expect(await cache.get(sha256(one))).toBeUndefined();
    expect(await cache.get(sha256(two))).toBeDefined();
  });
});

test('a blob damaged on disk is as good as missing, and is deleted', async () => {
  const path = await folder();
  const cache = new BlobCache(path);
  await cache.put(sha256(one), one);
  await writeFile(join(path, hex(sha256(one))), 'onf');
  expect(await cache.get(sha256(one))).toBeUndefined();
  expect(await readdir(path)).toEqual([]);
});

test('what a crash left half written is swept up', async () => {
  const path = await folder();
  const cache = new BlobCache(path);
  await cache.put(sha256(one), one);
  await writeFile(join(path, `${hex(sha256(two))}.0123.tmp`), 'tw');
  await cache.keepOnly([sha256(one)]);
  expect(await readdir(path)).toEqual([hex(sha256(one))]);
});

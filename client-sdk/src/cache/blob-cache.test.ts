import { mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FolderStorage } from '../platform/folder-storage.ts';
import { MemoryStorage } from '../platform/storage.ts';
import { sha256 } from '../trust/sha256.ts';
import { BlobCache } from './blob-cache.ts';

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'cw-blobs-'));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const [one, two] = [new TextEncoder().encode('one'), new TextEncoder().encode('two')];

describe.each([
  ['in memory', () => Promise.resolve(new BlobCache(new MemoryStorage(), 'blobs', sha256))],
  ['on disk', async () => new BlobCache(new FolderStorage(await folder()), 'blobs', sha256)],
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
  const root = await folder();
  const path = join(root, 'blobs');
  const cache = new BlobCache(new FolderStorage(root), 'blobs', sha256);
  await cache.put(sha256(one), one);
  await writeFile(join(path, hex(sha256(one))), 'onf');
  expect(await cache.get(sha256(one))).toBeUndefined();
  expect(await readdir(path)).toEqual([]);
});

test('what a crash left half written is swept up', async () => {
  const root = await folder();
  const path = join(root, 'blobs');
  const cache = new BlobCache(new FolderStorage(root), 'blobs', sha256);
  await cache.put(sha256(one), one);
  await writeFile(join(path, `${hex(sha256(two))}.0123.tmp`), 'tw');
  await cache.keepOnly([sha256(one)]);
  expect(await readdir(path)).toEqual([hex(sha256(one))]);
});

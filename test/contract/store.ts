import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { StoreError, type Commit, type Store } from '../../coordinator/src/store/store.ts';
import { blobOf, commitOf, receiptOf, sha256, taskOf, text, versionOf } from '../support/commit-records.ts';

/** Fails unless all of a commit is there. The task may be that of a later commit, which `newest` numbers. */
export async function expectWhole(store: Store, commit: Required<Commit>, newest: number): Promise<void> {
  const { version, blobs, receipts } = commit;
  expect(plain(await store.version(version.model, version.version))).toEqual(version);
  for (const { digest, data } of blobs) {
    expect(await store.blobSize(digest)).toBe(data.length);
    expect(Buffer.compare(await store.readBlob(digest, 0, data.length), data)).toBe(0);
  }
  for (const receipt of receipts) expect(plain(await store.receipt(receipt.updateId))).toEqual(receipt);
  expect(await store.tasks()).toEqual([taskOf('t', newest)]);
}

/** Fails where anything of a commit is there but the task, which has one row for all. */
export async function expectNothing(store: Store, { version, blobs, receipts }: Required<Commit>): Promise<void> {
  expect(await store.version(version.model, version.version)).toBeUndefined();
  for (const { digest } of blobs) expect(await store.blobSize(digest)).toBeUndefined();
  for (const { updateId } of receipts) expect(await store.receipt(updateId)).toBeUndefined();
}

/** A record with its bytes as plain arrays: an adapter may give Buffers. */
const plain = <T extends object>(record: T | undefined): T | undefined =>
  record === undefined
    ? undefined
    : (Object.fromEntries(
        Object.entries(record).map(([key, value]) => [
          key,
          value instanceof Uint8Array ? new Uint8Array(value) : value,
        ]),
      ) as T);

/**
 * What every store must do. `fresh` makes an empty place for one and gives what opens it; opening again after a close sees
 * what was there.
 */
export function storeContract(name: string, fresh: () => () => Promise<Store>): void {
  describe(`${name} keeps the contract of a store`, () => {
    const openStores: Store[] = [];
    afterEach(async () => {
      for (const store of openStores.splice(0)) await store.close();
    });
    const opened = async (open: () => Promise<Store>): Promise<Store> => {
      const store = await open();
      openStores.push(store);
      return store;
    };
    const closed = async (store: Store): Promise<void> => {
      openStores.splice(openStores.indexOf(store), 1);
      await store.close();
    };

    test('an empty store has nothing, and says so without an error', async () => {
      const store = await opened(fresh());
      expect(await store.version('m', 1)).toBeUndefined();
      expect(await store.newestVersion('m')).toBeUndefined();
      expect(await store.versions('m')).toEqual([]);
      expect(await store.models()).toEqual([]);
      expect(await store.receipt(receiptOf(1).updateId)).toBeUndefined();
      expect(await store.tasks()).toEqual([]);
      expect(await store.blobSize(sha256(text('?')))).toBeUndefined();
      expect(await store.readBlob(sha256(text('?')), 0, 10)).toHaveLength(0);
    });

    test('a commit is there whole: version, blobs, receipts and task', async () => {
      const store = await opened(fresh());
      await store.commit(commitOf(1));
      await expectWhole(store, commitOf(1), 1);
    });

    test('versions are listed from the first to the newest, and models by name', async () => {
      const store = await opened(fresh());
      for (const version of [1, 2, 3]) await store.commit({ version: versionOf('m', version) });
      await store.commit({ version: versionOf('a', 1) });
      expect((await store.versions('m')).map(({ version }) => version)).toEqual([1, 2, 3]);
      expect((await store.newestVersion('m'))?.version).toBe(3);
      expect((await store.versions('a')).map(({ version }) => version)).toEqual([1]);
      expect(await store.models()).toEqual(['a', 'm']);
    });

    test('a version is never overwritten, and the commit that tries leaves nothing', async () => {
      const store = await opened(fresh());
      await store.commit(commitOf(1));
      const rival = { ...commitOf(2), version: versionOf('m', 1, { digest: sha256(text('rival')) }) };
      await expect(store.commit(rival)).rejects.toThrow(StoreError);
      await expectWhole(store, commitOf(1), 1);
      for (const { digest } of rival.blobs) expect(await store.blobSize(digest)).toBeUndefined();
      for (const { updateId } of rival.receipts) expect(await store.receipt(updateId)).toBeUndefined();
    });

    test('a parent has one child, and the commit of a second leaves nothing', async () => {
      const store = await opened(fresh());
      await store.commit(commitOf(1));
      await store.commit(commitOf(2));
      const rival = { ...commitOf(3), version: versionOf('m', 3, { parentDigest: versionOf('m', 1).digest }) };
      await expect(store.commit(rival)).rejects.toThrow(StoreError);
      await expectNothing(store, rival);
      await expectWhole(store, commitOf(2), 2);
    });

    test('two models may have the same version numbers, never the same manifest', async () => {
      const store = await opened(fresh());
      await store.commit({ version: versionOf('m', 1) });
      await store.commit({ version: versionOf('n', 1) });
      const copied = versionOf('o', 1, { digest: versionOf('m', 1).digest });
      await expect(store.commit({ version: copied })).rejects.toThrow(StoreError);
      expect(await store.models()).toEqual(['m', 'n']);
    });

    test('after a commit that failed the next one works', async () => {
      const store = await opened(fresh());
      await store.commit(commitOf(1));
      await expect(store.commit(commitOf(1))).rejects.toThrow(StoreError);
      await store.commit(commitOf(2));
      await expectWhole(store, commitOf(1), 2);
      await expectWhole(store, commitOf(2), 2);
    });

    test('the first receipt of an update stands', async () => {
      const store = await opened(fresh());
      await store.commit({ receipts: [receiptOf(1)] });
      await store.commit({ receipts: [{ ...receiptOf(2), updateId: receiptOf(1).updateId }, receiptOf(3)] });
      expect(plain(await store.receipt(receiptOf(1).updateId))).toEqual(receiptOf(1));
      expect(plain(await store.receipt(receiptOf(3).updateId))).toEqual(receiptOf(3));
    });

    test('a task is replaced by its newer record, and tasks are listed by name', async () => {
      const store = await opened(fresh());
      await store.commit({ task: taskOf('t', 1) });
      await store.commit({ task: taskOf('s', 1) });
      await store.commit({ task: { ...taskOf('t', 2), state: 'paused' } });
      expect(await store.tasks()).toEqual([taskOf('s', 1), { ...taskOf('t', 2), state: 'paused' }]);
    });

    test('the same blob in two commits is kept once and stays readable', async () => {
      const store = await opened(fresh());
      const blob = blobOf(7, 5000);
      await store.commit({ blobs: [blob, blob] });
      await store.commit({ blobs: [blob] });
      expect(Buffer.compare(await store.readBlob(blob.digest, 0, 5000), blob.data)).toBe(0);
    });

    test('what a caller does with its bytes after a commit changes nothing', async () => {
      const store = await opened(fresh());
      const blob = blobOf(7, 100);
      await store.commit({ blobs: [{ ...blob, data: blob.data.slice() }] });
      (await store.readBlob(blob.digest, 0, 100)).fill(0);
      expect(Buffer.compare(await store.readBlob(blob.digest, 0, 100), blob.data)).toBe(0);
    });

    test('any range of a blob of any size is the bytes that were put in', async () => {
      const store = await opened(fresh());
      // Around the sizes at which a store may cut: nothing, one byte, powers of two and their neighbours.
      const sizes = [0, 1, 4095, 4096, 65_537, 262_143, 262_144, 262_145, 600_000];
      const blobs = sizes.map((size, i) => blobOf(i, size));
      await store.commit({ blobs });
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...blobs), fc.nat(700_000), fc.nat(700_000), async (blob, offset, length) => {
          const part = await store.readBlob(blob.digest, offset, length);
          expect(Buffer.compare(part, blob.data.subarray(offset, offset + length))).toBe(0);
        }),
        { numRuns: 200 },
      );
    });

    test('a blob read in chunks of any size has its digest', async () => {
      const store = await opened(fresh());
      const blob = blobOf(9, 600_001);
      await store.commit({ blobs: [blob] });
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 10_000, max: 700_000 }), async (chunk) => {
          const hash = createHash('sha256');
          for (let offset = 0; offset < blob.data.length; offset += chunk) {
            hash.update(await store.readBlob(blob.digest, offset, chunk));
          }
          expect(hash.digest()).toEqual(Buffer.from(blob.digest));
        }),
        { numRuns: 20 },
      );
    });

    test('opened again after a close, everything is there', async () => {
      const open = fresh();
      const before = await opened(open);
      await before.commit(commitOf(1));
      await before.commit(commitOf(2, 300_000));
      await closed(before);
      const after = await opened(open);
      await expectWhole(after, commitOf(1), 2);
      await expectWhole(after, commitOf(2, 300_000), 2);
      await after.commit(commitOf(3));
      await expectWhole(after, commitOf(3), 3);
    });

    test('a closed store says so as a store error', async () => {
      const store = await opened(fresh());
      await closed(store);
      await expect(store.commit({ task: taskOf('t', 1) })).rejects.toThrow(StoreError);
      await expect(store.tasks()).rejects.toThrow(StoreError);
    });
  });
}

import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { CandidateSchema, VariantListSchema } from '@commonweight/proto';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { StoreError, type CandidateRecord, type ResultRecord, type Store } from '../../coordinator/src/store/store.ts';
import {
  blobOf,
  channelOf,
  commitOf,
  receiptOf,
  releaseOf,
  retainedOf,
  sha256,
  taskOf,
  text,
  versionOf,
  type WholeCommit,
} from '../support/commit-records.ts';

/** Fails unless all of a commit is there. The task may be that of a later commit, which `newest` numbers. */
export async function expectWhole(store: Store, commit: WholeCommit, newest: number): Promise<void> {
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
export async function expectNothing(store: Store, { version, blobs, receipts }: WholeCommit): Promise<void> {
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
      expect(await store.variants('m', 1)).toBeUndefined();
      expect(await store.channel('m', 'stable')).toBeUndefined();
      expect(await store.channels()).toEqual([]);
      expect(await store.reportSnapshots()).toEqual([]);
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

    test('the forms of a version are replaced by what is said of them later, and need the version', async () => {
      const store = await opened(fresh());
      await store.commit({ version: versionOf('m', 1) });
      const said = (words: string) => {
        const list = toBinary(VariantListSchema, create(VariantListSchema, { model: words }));
        return { model: 'm', version: 1, list, signature: text(words) };
      };
      await store.commit({ variants: said('first'), blobs: [blobOf(7, 100)] });
      await store.commit({ variants: said('second') });
      expect(plain(await store.variants('m', 1))).toEqual(said('second'));
      expect(await store.variants('m', 2)).toBeUndefined();
      await expect(store.commit({ variants: { ...said('third'), version: 2 } })).rejects.toThrow(StoreError);
      expect(await store.variants('m', 2)).toBeUndefined();
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

    test('updates are retained with their version, and those of versions that are too old go in the same commit', async () => {
      const open = fresh();
      const store = await opened(open);
      for (const version of [1, 2, 3]) {
        const updates = [retainedOf(2 * version, 300_000), retainedOf(2 * version + 1, 0)];
        await store.commit({ version: versionOf('m', version), retained: { updates, versions: 2 } });
      }
      await store.commit({ version: versionOf('n', 1), retained: { updates: [retainedOf(8, 5)], versions: 1 } });
      // A version without them takes nothing: they may be those of another task.
      await store.commit({ version: versionOf('m', 4) });
      await closed(store);
      const again = await opened(open);
      expect(await again.retainedVersions('m')).toEqual([2, 3]);
      expect(await again.retainedVersions('n')).toEqual([1]);
      expect(await again.retainedVersions('?')).toEqual([]);
      expect(await again.retained('m', 1)).toEqual([]);
      const kept = (await again.retained('m', 3)).map((one) => plain(one));
      const sorted = [retainedOf(6, 0), retainedOf(7, 0)].sort((a, b) => Buffer.compare(a.updateId, b.updateId));
      expect(kept).toEqual(sorted.map(({ updateId, header }) => ({ updateId, header })));
      const payload = await again.retainedPayload(retainedOf(6, 0).updateId);
      expect(Buffer.compare(payload, retainedOf(6, 300_000).payload())).toBe(0);
      expect(await again.retainedPayload(retainedOf(7, 0).updateId)).toHaveLength(0);
      await expect(again.retainedPayload(retainedOf(2, 0).updateId)).rejects.toThrow(/^update \w{64} is not retained$/);
    });

    test('a commit that fails retains nothing, and what cannot be read from the round fails the commit', async () => {
      const store = await opened(fresh());
      await store.commit({ version: versionOf('m', 1) });
      const updates = [retainedOf(1, 10)];
      await expect(store.commit({ version: versionOf('m', 1), retained: { updates, versions: 1 } })).rejects.toThrow(
        StoreError,
      );
      const payload = (): never => {
        throw new StoreError('the spool is damaged');
      };
      const damaged = [retainedOf(1, 10), { ...retainedOf(2, 10), payload }];
      await expect(
        store.commit({ version: versionOf('m', 2), retained: { updates: damaged, versions: 1 } }),
      ).rejects.toThrow('the spool is damaged');
      expect(await store.retainedVersions('m')).toEqual([]);
      expect(await store.version('m', 2)).toBeUndefined();
    });

    /** `count` versions of a model with a graph in common and 300,000 bytes of weights each. */
    const withVersions = async (store: Store, count: number, model = 'm') => {
      const graph = blobOf(1, 1000);
      const weights = Array.from({ length: count }, (_, i) => blobOf(i + (model === 'm' ? 10 : 60), 300_000));
      for (const [i, blob] of weights.entries()) {
        await store.commit({ version: releaseOf(model, i + 1, [graph, blob]), blobs: [graph, blob] });
      }
      return { graph, weights };
    };
    const sizes = (store: Store, blobs: readonly { digest: Uint8Array }[]) =>
      Promise.all(blobs.map(({ digest }) => store.blobSize(digest)));

    test('collected versions keep their manifests and what others need of them, and say what became of the rest', async () => {
      const open = fresh();
      const store = await opened(open);
      const { graph, weights } = await withVersions(store, 5);
      const other = await withVersions(store, 3, 'o');
      const before = await store.versions('m');
      expect(await store.collect('m', 2)).toEqual({ versions: [1, 2, 3], blobs: 3, bytes: 900_000 });
      expect(await store.collect('m', 2)).toEqual({ versions: [], blobs: 0, bytes: 0 });
      await closed(store);
      const again = await opened(open);
      expect(await sizes(again, weights)).toEqual([undefined, undefined, undefined, 300_000, 300_000]);
      expect(await sizes(again, [graph, ...other.weights])).toEqual([1000, 300_000, 300_000, 300_000]);
      const now = await again.versions('m');
      expect(now.map(({ isCollected }) => isCollected)).toEqual([true, true, true, undefined, undefined]);
      expect(now.map(({ isCollected: _, ...rest }) => plain(rest))).toEqual(before.map(plain));
      await expect(again.readBlob(weights[0]!.digest, 0, 10)).rejects.toThrow(
        /^blob \w{64} was collected: only newer and pinned versions are kept$/,
      );
      await expect(again.readBlob(weights[0]!.digest, 0, 10)).rejects.toMatchObject({ kind: 'collected' });
      expect(Buffer.compare(await again.readBlob(weights[4]!.digest, 0, 300_000), weights[4]!.data)).toBe(0);
    });

    test('the forms of a version go with it, and none are taken for one that is gone', async () => {
      const store = await opened(fresh());
      await withVersions(store, 4);
      const formOf = (version: number) => blobOf(150 + version, 5000);
      const list = (version: number) => {
        const { digest } = formOf(version);
        const variants = [{ name: 'int8-dynamic', digest, size: 5000n }, { name: 'int8-blocks' }];
        const bytes = toBinary(VariantListSchema, create(VariantListSchema, { model: 'm', variants }));
        return { model: 'm', version, list: bytes, signature: text('signature') };
      };
      // Those of 2 are those of 4.
      await store.commit({ variants: list(1), blobs: [formOf(1)] });
      await store.commit({ variants: { ...list(4), version: 2 }, blobs: [formOf(4)] });
      await store.commit({ variants: list(4), blobs: [formOf(4)] });
      expect(await store.collect('m', 2)).toEqual({ versions: [1, 2], blobs: 3, bytes: 605_000 });
      expect(await sizes(store, [formOf(1), formOf(4)])).toEqual([undefined, 5000]);
      expect(plain(await store.variants('m', 1))).toEqual(list(1));
      await expect(store.commit({ variants: list(1), blobs: [formOf(1)] })).rejects.toMatchObject({
        kind: 'collected',
      });
      expect(await store.blobSize(formOf(1).digest)).toBeUndefined();
      // What is said of it without new bytes is history.
      await store.commit({ variants: { ...list(1), signature: text('another') } });
    });

    test('a form that is made anew takes the place of the one before, which goes unless another version has it', async () => {
      const store = await opened(fresh());
      await withVersions(store, 2);
      const formOf = (number: number) => blobOf(150 + number, 5000);
      const commit = (version: number, numbers: readonly number[], made: readonly number[] = numbers) => {
        const variants = numbers.map((number) => ({ digest: formOf(number).digest, size: 5000n }));
        const list = toBinary(VariantListSchema, create(VariantListSchema, { model: 'm', variants }));
        const forms = { model: 'm', version, list, signature: text('signature') };
        return store.commit({ variants: forms, blobs: made.map(formOf) });
      };
      await commit(1, [1, 2]);
      await commit(2, [2]);
      const all = (): Promise<(number | undefined)[]> => sizes(store, [1, 2, 3].map(formOf));
      await commit(1, [1, 3], [3]);
      expect(await all()).toEqual([5000, 5000, 5000]);
      await commit(1, [3], []);
      expect(await all()).toEqual([undefined, 5000, 5000]);
      await commit(2, [3], []);
      expect(await all()).toEqual([undefined, undefined, 5000]);
      // What went may come back.
      await commit(2, [1, 3], [1]);
      expect(await all()).toEqual([5000, undefined, 5000]);
    });

    test('pinned versions stay, and those whose updates are retained, with the base of each', async () => {
      const store = await opened(fresh());
      await withVersions(store, 6);
      const blob = blobOf(99, 10);
      const retained = { updates: [retainedOf(1, 10)], versions: 100 };
      await store.commit({ version: releaseOf('m', 7, [blobOf(1, 1000), blob]), blobs: [blob], retained });
      await withVersions(store, 2, 'o');
      await store.commit({ pin: { model: 'm', version: 2, isPinned: true } });
      await store.commit({ pin: { model: 'm', version: 2, isPinned: true } });
      for (const version of [8, 9]) await store.commit({ version: releaseOf('m', version, [blobOf(1, 1000), blob]) });
      expect(await store.pins('m')).toEqual([2]);
      expect((await store.collect('m', 1)).versions).toEqual([1, 3, 4, 5, 8]);
      // The weights of 8 are those of 7.
      expect(await store.blobSize(blob.digest)).toBe(10);
      await store.commit({ pin: { model: 'm', version: 2, isPinned: false } });
      expect(await store.pins('m')).toEqual([]);
      expect((await store.collect('m', 1)).versions).toEqual([2]);
      expect((await store.collect('?', 1)).versions).toEqual([]);
    });

    test('a channel has one record, and only a higher revision takes its place', async () => {
      const open = fresh();
      const store = await opened(open);
      for (const version of [1, 2]) await store.commit({ version: versionOf('m', version) });
      await store.commit({ channel: channelOf(1) });
      await store.commit({ channel: channelOf(2, { version: 2, before: 1 }) });
      await store.commit({ channel: channelOf(1, { channel: 'beta' }) });
      for (const revision of [1, 2]) {
        await expect(store.commit({ channel: channelOf(revision) })).rejects.toMatchObject({ kind: 'refused' });
      }
      await expect(store.commit({ channel: channelOf(3, { version: 3 }) })).rejects.toMatchObject({ kind: 'refused' });
      await expect(store.commit({ channel: channelOf(3, { candidate: 3 }) })).rejects.toMatchObject({
        kind: 'refused',
      });
      await closed(store);
      const again = await opened(open);
      expect(plain(await again.channel('m', 'stable'))).toEqual(channelOf(2, { version: 2, before: 1 }));
      expect(await again.channel('m', 'canary')).toBeUndefined();
      expect((await again.channels()).map(plain)).toEqual([
        channelOf(1, { channel: 'beta' }),
        channelOf(2, { version: 2, before: 1 }),
      ]);
    });

    test('of what clients said of a model the last snapshot stays', async () => {
      const open = fresh();
      const store = await opened(open);
      const said = (model: string, sumsJson: string) => ({ model, sumsJson });
      await store.commit({ reports: [said('n', '{}'), said('m', '{"windows":[]}')] });
      await store.commit({ reports: [said('m', '{"windows":[1]}')] });
      await closed(store);
      const again = await opened(open);
      expect(await again.reportSnapshots()).toEqual([said('m', '{"windows":[1]}'), said('n', '{}')]);
    });

    test('versions that a channel names, or may go back to, are never collected; one that was cannot be named', async () => {
      const store = await opened(fresh());
      await withVersions(store, 9);
      await store.commit({ channel: channelOf(1, { version: 3, candidate: 5, before: 2 }) });
      expect((await store.collect('m', 1)).versions).toEqual([1, 4, 6, 7, 8]);
      await expect(store.commit({ channel: channelOf(2, { version: 4 }) })).rejects.toMatchObject({ kind: 'refused' });
      await store.commit({ channel: channelOf(2, { version: 9, before: 3 }) });
      expect((await store.collect('m', 1)).versions).toEqual([2, 5]);
    });

    test('what was collected cannot be pinned, and comes back where a newer version has the same bytes', async () => {
      const store = await opened(fresh());
      const { graph, weights } = await withVersions(store, 3);
      await store.collect('m', 1);
      await expect(store.commit({ pin: { model: 'm', version: 1, isPinned: true } })).rejects.toThrow(StoreError);
      await expect(store.commit({ pin: { model: 'm', version: 4, isPinned: true } })).rejects.toThrow(StoreError);
      await store.commit({ version: releaseOf('m', 4, [graph, weights[0]!]), blobs: [graph, weights[0]!] });
      expect(Buffer.compare(await store.readBlob(weights[0]!.digest, 0, 300_000), weights[0]!.data)).toBe(0);
    });

    test('many old versions go in a few calls', async () => {
      const store = await opened(fresh());
      for (let version = 1; version <= 40; version++) {
        const blob = blobOf(version, 10);
        await store.commit({ version: releaseOf('m', version, [blob]), blobs: [blob] });
      }
      const gone: number[] = [];
      for (;;) {
        const { versions } = await store.collect('m', 3);
        if (versions.length === 0) break;
        gone.push(...versions);
      }
      expect(gone).toEqual(Array.from({ length: 37 }, (_, i) => i + 1));
    });

    test('a blob is written anew where it is to be, and not where it was let go', async () => {
      const store = await opened(fresh());
      const { weights } = await withVersions(store, 3);
      await store.collect('m', 2);
      expect(await store.repairBlob(weights[2]!)).toBe(true);
      expect(Buffer.compare(await store.readBlob(weights[2]!.digest, 0, 300_000), weights[2]!.data)).toBe(0);
      expect(await store.repairBlob(weights[0]!)).toBe(false);
      expect(await store.blobSize(weights[0]!.digest)).toBeUndefined();
      expect(await store.repairBlob(blobOf(200, 10))).toBe(true);
      expect(await store.blobSize(blobOf(200, 10).digest)).toBe(10);
    });

    const candidateOf = (
      number: number,
      blobs: readonly { digest: Uint8Array; data: Uint8Array }[],
      changes: Partial<CandidateRecord> = {},
    ): CandidateRecord => ({
      model: 'm',
      number,
      record: toBinary(
        CandidateSchema,
        create(CandidateSchema, {
          model: 'm',
          number: BigInt(number),
          artifacts: blobs.map(({ digest, data }) => ({ role: 'weights', digest, size: BigInt(data.length) })),
        }),
      ),
      signature: text(`signature ${number}`),
      isPending: false,
      isKept: true,
      ...changes,
    });

    test('a candidate is there with its weights, and what is decided takes the place of what was said before', async () => {
      const open = fresh();
      const store = await opened(open);
      const blob = blobOf(1, 1000);
      await store.commit({
        candidate: candidateOf(1, [blob], { isPending: true }),
        blobs: [blob],
        task: taskOf('t', 1),
      });
      await store.commit({ candidate: candidateOf(2, []) });
      const decided = candidateOf(1, [blob], { signature: text('another') });
      await store.commit({ candidate: decided, receipts: [receiptOf(1)] });
      await closed(store);
      const again = await opened(open);
      expect((await again.candidates('m')).map(plain)).toEqual([decided, candidateOf(2, [])]);
      expect(await again.candidates('n')).toEqual([]);
      expect(await again.blobSize(blob.digest)).toBe(1000);
    });

    test('of candidates that became no version the newest keep their weights, a pending one and what others need always', async () => {
      const store = await opened(fresh());
      const { graph, weights } = await withVersions(store, 1);
      const blobs = Array.from({ length: 8 }, (_, i) => blobOf(100 + i, 500));
      const pending = candidateOf(1, [blobs[0]!], { isPending: true });
      await store.commit({ candidate: pending, blobs: [blobs[0]!] });
      // One is what version 1 has.
      await store.commit({ candidate: candidateOf(2, [weights[0]!]) });
      for (let number = 3; number <= 8; number++)
        await store.commit({ candidate: candidateOf(number, [blobs[number - 1]!]), blobs: [blobs[number - 1]!] });
      const kept = (await store.candidates('m')).map(({ isKept }) => isKept);
      expect(kept).toEqual([true, false, false, true, true, true, true, true]);
      expect(await sizes(store, blobs)).toEqual([500, undefined, undefined, 500, 500, 500, 500, 500]);
      expect(await sizes(store, [graph, weights[0]!])).toEqual([1000, 300_000]);
      await expect(store.readBlob(blobs[2]!.digest, 0, 10)).rejects.toMatchObject({ kind: 'collected' });
    });

    test('a collection of versions takes nothing from a candidate that is kept', async () => {
      const store = await opened(fresh());
      const { weights } = await withVersions(store, 4);
      await store.commit({ candidate: candidateOf(1, [weights[0]!]) });
      expect((await store.collect('m', 2)).versions).toEqual([1, 2]);
      expect(await sizes(store, weights)).toEqual([300_000, undefined, 300_000, 300_000]);
    });

    test('results are there by task and by model, in order, and one is never written twice', async () => {
      const open = fresh();
      const store = await opened(open);
      const resultOf = (task: string, round: number, model = 'm'): ResultRecord => ({
        task,
        round,
        model,
        record: text(`${task} ${round}`),
        signature: text('signature'),
      });
      for (const result of [resultOf('b', 2), resultOf('b', 10), resultOf('a', 1), resultOf('b', 1, 'n')])
        await store.commit({ result, task: taskOf('t', 1) });
      await expect(store.commit({ result: resultOf('a', 1), receipts: [receiptOf(9)] })).rejects.toThrow(StoreError);
      await closed(store);
      const again = await opened(open);
      const names = async (of: { task: string } | { model: string }) =>
        (await again.results(of)).map(({ task, round }) => `${task} ${round}`);
      expect(await names({ task: 'b' })).toEqual(['b 1', 'b 2', 'b 10']);
      expect(await names({ model: 'm' })).toEqual(['a 1', 'b 2', 'b 10']);
      expect(await again.receipt(receiptOf(9).updateId)).toBeUndefined();
      expect(plain((await again.results({ task: 'a' }))[0])).toEqual(resultOf('a', 1));
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

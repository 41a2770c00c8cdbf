import { fork } from 'node:child_process';
import { once } from 'node:events';
import { watch } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { sha256 } from '@commonweight/client-sdk';
import { equalBytes, UpdateHeaderSchema } from '@commonweight/proto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openOutbox } from '../folder-disk.ts';
import type { OutboxEntry } from './outbox.ts';

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'cw-outbox-'));
const never = (path: string): void => expect.unreachable(`${path} was said to be damaged`);

function entryOf(payload: Uint8Array, round = 1n): OutboxEntry {
  const payloadDigest = sha256(payload);
  const updateId = sha256(Buffer.concat([payloadDigest, Buffer.of(Number(round))]));
  const header = create(UpdateHeaderSchema, {
    updateId,
    agentId: 'a',
    task: 't',
    round,
    payloadDigest,
    payloadSize: BigInt(payload.length),
  });
  return { header, payload };
}

const byId = (entries: OutboxEntry[]): OutboxEntry[] =>
  entries.toSorted((a, b) => Buffer.compare(a.header.updateId, b.header.updateId));
/** Compared by bytes, for a file is read into Buffers. */
const plain = ({ header, payload }: OutboxEntry): string[] =>
  [toBinary(UpdateHeaderSchema, header), payload].map((bytes) => Buffer.from(bytes).toString('hex'));

/** An outbox in a folder of its own that holds one update, and where that lies. */
async function withOne(): Promise<{ at: string; file: string; entry: OutboxEntry }> {
  const at = await folder();
  const entry = entryOf(Uint8Array.from({ length: 100 }, (_, i) => i));
  await (await openOutbox(at, never)).put(entry);
  const [name = ''] = await readdir(at);
  return { at, file: join(at, name), entry };
}

test('updates are found again, whole, until a receipt ends them', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.uint8Array({ maxLength: 200 }), { maxLength: 5, comparator: 'SameValue' }),
      async (payloads) => {
        const at = await folder();
        const entries = payloads.map((payload, i) => entryOf(payload, BigInt(i)));
        const outbox = await openOutbox(at, never);
        for (const entry of entries) await outbox.put(entry);
        const again = await openOutbox(at, never);
        expect(byId(again.entries()).map(plain)).toEqual(byId(entries).map(plain));
        for (const { header } of entries) {
          expect(again.get(header.updateId)).toBeDefined();
          await again.delete(header.updateId);
          expect(again.get(header.updateId)).toBeUndefined();
        }
        expect(await readdir(at)).toEqual([]);
        expect((await openOutbox(at, never)).entries()).toEqual([]);
      },
    ),
    { numRuns: 15 },
  );
});

test('a receipt for an update that is not there is no error', async () => {
  const outbox = await openOutbox(await folder(), never);
  await outbox.delete(sha256(Buffer.of(1)));
  expect(outbox.entries()).toEqual([]);
});

test('a bit flipped anywhere in a file: the update is set aside and told, never offered', async () => {
  const { at, file } = await withOne();
  const bytes = await readFile(file);
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(7), async (position, bit) => {
      const damaged = Buffer.from(bytes);
      damaged[position] = (damaged[position] ?? 0) ^ (1 << bit);
      await writeFile(file, damaged);
      const told: string[] = [];
      const outbox = await openOutbox(at, (path) => told.push(path));
      expect(outbox.entries()).toEqual([]);
      expect(told).toEqual([`${file}.damaged`]);
      expect(await readFile(`${file}.damaged`)).toEqual(damaged);
    }),
  );
});

test('a file that was cut, lengthened, emptied or renamed is set aside', async () => {
  for (const length of [0, 10, 35, 36, 60, -1]) {
    const { at, file } = await withOne();
    const { length: whole } = await readFile(file);
    if (length < 0) await writeFile(file, Buffer.concat([await readFile(file), Buffer.of(0)]));
    else await truncate(file, Math.min(length, whole));
    const told: string[] = [];
    expect((await openOutbox(at, (path) => told.push(path))).entries()).toEqual([]);
    expect(told).toEqual([`${file}.damaged`]);
  }
  const { at, file } = await withOne();
  const other = join(at, `${'00'.repeat(32)}.update`);
  await writeFile(other, await readFile(file));
  const told: string[] = [];
  expect((await openOutbox(at, (path) => told.push(path))).entries()).toHaveLength(1);
  expect(told).toEqual([`${other}.damaged`]);
});

test('what was set aside is neither read nor told again', async () => {
  const { at, file } = await withOne();
  await truncate(file, 5);
  await openOutbox(at, () => {});
  expect((await openOutbox(at, never)).entries()).toEqual([]);
});

test('what a crash left half written is swept up and is no update', async () => {
  const { at, file, entry } = await withOne();
  await writeFile(`${file}.0123456789ab.tmp`, (await readFile(file)).subarray(0, 50));
  const outbox = await openOutbox(at, never);
  expect(outbox.entries().map(plain)).toEqual([plain(entry)]);
  expect(await readdir(at)).toEqual([file.slice(at.length + 1)]);
});

test('an update that the disk cannot take is not offered', async () => {
  const at = await folder();
  const outbox = await openOutbox(join(at, 'outbox'), never);
  await writeFile(join(at, 'outbox'), 'a file where the folder would be');
  await expect(outbox.put(entryOf(Uint8Array.of(1)))).rejects.toThrow();
  expect(outbox.entries()).toEqual([]);
});

test('kill -9 in the middle of writing: all that was said to be kept is there, and nothing else is damaged', async () => {
  let halfWritten = 0;
  // A write may end before the kill comes; what counts are three that did not.
  for (let tries = 0; halfWritten < 3; tries++) {
    expect(tries).toBeLessThan(30);
    const at = await folder();
    const kept = await writeUntilKilled(at);
    if ((await readdir(at)).some((name) => name.endsWith('.tmp'))) halfWritten += 1;
    const outbox = await openOutbox(at, never);
    const found = outbox.entries().map(({ header }) => Buffer.from(header.updateId).toString('hex'));
    for (const id of kept) expect(found).toContain(id);
    for (const { header, payload } of outbox.entries())
      expect(equalBytes(sha256(payload), header.payloadDigest)).toBe(true);
    expect((await readdir(at)).filter((name) => !name.endsWith('.update'))).toEqual([]);
    await outbox.put(entryOf(Uint8Array.of(1)));
    await rm(at, { recursive: true });
  }
});

/** Lets a process fill an outbox and kills it as a second update begins to be written; gives the ids that it said are kept. */
async function writeUntilKilled(at: string): Promise<string[]> {
  const flags = ['--disable-warning=ExperimentalWarning', '--conditions=@commonweight/source'];
  const child = fork(join(import.meta.dirname, '../../../test/support/outbox-writer.ts'), [at], { execArgv: flags });
  const kept: string[] = [];
  child.on('message', (id: string) => kept.push(id));
  const watcher = watch(at, (_, name) => {
    if (kept.length > 0 && name?.endsWith('.tmp') === true) child.kill('SIGKILL');
  });
  const [, signal] = (await once(child, 'exit')) as [number | null, string | null];
  watcher.close();
  expect(signal).toBe('SIGKILL');
  return kept;
}

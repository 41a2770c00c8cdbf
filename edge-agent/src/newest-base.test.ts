import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { FolderStorage, TrustError } from '@commonweight/client-sdk';
import { ManifestSchema, type Manifest } from '@commonweight/proto';
import { expect, test } from 'vitest';
import { refuseOlder as refuse } from './newest-base.ts';

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'cw-newest-'));
const refuseOlder = (at: string, task: string, of: Manifest): Promise<void> => refuse(new FolderStorage(at), task, of);
const manifest = (version: bigint): Manifest => create(ManifestSchema, { model: 'digits', version });

test('an older base than one seen is refused, also by an agent that starts anew in the folder', async () => {
  const at = await folder();
  await refuseOlder(at, 'train', manifest(3n));
  await refuseOlder(at, 'train', manifest(3n));
  await refuseOlder(at, 'train', manifest(5n));
  // Nothing is held in memory: what a restart finds is this file.
  expect(await readFile(join(at, 'newest-train'), 'latin1')).toBe('5\ncrc32 84b12bae\n');
  await expect(refuseOlder(at, 'train', manifest(4n))).rejects.toThrow(TrustError);
  await expect(refuseOlder(at, 'train', manifest(4n))).rejects.toThrow(
    `version 4 of 'digits' was offered after version 5; it is not taken; if the coordinator was set up anew on purpose, delete ${join(at, 'newest-train')}`,
  );
  await refuseOlder(at, 'train', manifest(5n));
});

test('each task has its own newest base', async () => {
  const at = await folder();
  await refuseOlder(at, 'one', manifest(9n));
  await refuseOlder(at, 'two', manifest(1n));
  await expect(refuseOlder(at, 'one', manifest(1n))).rejects.toThrow(TrustError);
});

test('a note that cannot be read or written stops the training, for it would hold nothing back', async () => {
  const at = await folder();
  await writeFile(join(at, 'newest-train'), 'five');
  await expect(refuseOlder(at, 'train', manifest(6n))).rejects.toThrow(/newest-train is damaged; delete it/);
  await writeFile(join(at, 'file'), '');
  await expect(refuseOlder(join(at, 'file'), 'train', manifest(6n))).rejects.toThrow(/ENOTDIR/);
});

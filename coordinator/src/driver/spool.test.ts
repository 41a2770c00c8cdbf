import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { StoreError } from '../store/store.ts';
import { RoundSpool } from './spool.ts';

const bytes = (value: number, length = 8): Uint8Array => new Uint8Array(length).fill(value);

test('payloads stand one after the other, the file is gone after a clear, and the next round begins anew', async () => {
  const path = join(temporaryFolder('spool'), 'below', 'a.updates');
  const spool = new RoundSpool(path);
  await spool.settled();
  expect(existsSync(path)).toBe(false);
  await spool.append('one', bytes(1));
  await spool.append('two', bytes(2, 3));
  await spool.append('empty', bytes(0, 0));
  await spool.append('four', bytes(4));
  expect([...spool.round.payloads]).toEqual([
    ['one', { offset: 0, bytes: 8 }],
    ['two', { offset: 8, bytes: 3 }],
    ['empty', { offset: 11, bytes: 0 }],
    ['four', { offset: 11, bytes: 8 }],
  ]);
  expect([...spool.read('two')]).toEqual([2, 2, 2]);
  expect([...readFileSync(path)]).toEqual([...bytes(1), ...bytes(2, 3), ...bytes(4)]);
  spool.clear();
  expect(spool.round.payloads.size).toBe(0);
  // The file of the last round is gone before that of this one is made.
  await spool.append('three', bytes(3));
  expect([...readFileSync(path)]).toEqual([...bytes(3)]);
  spool.clear();
  spool.clear();
  await spool.settled();
  expect(existsSync(path)).toBe(false);
});

test('a folder that cannot be made is a StoreError that names the path', async () => {
  const file = join(temporaryFolder('spool'), 'file');
  writeFileSync(file, '');
  const spool = new RoundSpool(join(file, 'a.updates'));
  await expect(spool.append('one', bytes(1))).rejects.toThrow(StoreError);
  await expect(spool.append('one', bytes(1))).rejects.toMatchObject({ kind: 'broken' });
  await expect(spool.append('one', bytes(1))).rejects.toThrow(/cannot keep the updates of a round in .*a\.updates/);
});

test.runIf(existsSync('/dev/full'))('a full disk is said to be full, and the spool is what it was', async () => {
  const path = join(temporaryFolder('spool'), 'a.updates');
  symlinkSync('/dev/full', path);
  const spool = new RoundSpool(path);
  await expect(spool.append('one', bytes(1))).rejects.toMatchObject({ kind: 'full' });
  expect(spool.round.payloads.size).toBe(0);
  spool.clear();
  await spool.append('one', bytes(1));
  expect([...readFileSync(path)]).toEqual([...bytes(1)]);
  spool.clear();
  await spool.settled();
});

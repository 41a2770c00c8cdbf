import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { TrustError } from '../errors.ts';
import { verifyEd25519 } from './ed25519.ts';
import { FolderStorage } from '../platform/folder-storage.ts';
import { KeyPin } from './key-pin.ts';
import { Ratchet } from './ratchet.ts';

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'cw-trust-'));
const key = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);

test('a signature holds for its key and message only', () => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  const message = Buffer.from('version 7');
  const signature = sign(null, message, privateKey);
  expect(verifyEd25519(raw, message, signature)).toBe(true);
  expect(verifyEd25519(raw, Buffer.from('version 8'), signature)).toBe(false);
  expect(verifyEd25519(key(1), message, signature)).toBe(false);
  expect(verifyEd25519(raw.subarray(1), message, signature)).toBe(false);
  expect(verifyEd25519(raw, message, signature.subarray(1))).toBe(false);
});

test('RFC 8032 test 2 verifies', () => {
  const hex = (text: string): Buffer => Buffer.from(text, 'hex');
  const publicKey = hex('3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c');
  const signature = hex(
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  );
  expect(verifyEd25519(publicKey, hex('72'), signature)).toBe(true);
});

test('the first key met is trusted from then on, over restarts', async () => {
  const path = await folder();
  const [storage, file] = [new FolderStorage(path), join(path, 'trusted-key')];
  const first = await KeyPin.open({ storage });
  first.pin(key(1));
  await first.saved();
  expect(await readFile(file, 'latin1')).toMatch(new RegExp(`^${'01'.repeat(32)}\\ncrc32 [0-9a-f]{8}\\n$`));

  const second = await KeyPin.open({ storage });
  expect(() => second.pin(key(1))).not.toThrow();
  expect(() => second.pin(key(2))).toThrow(TrustError);
  expect(() => second.pin(key(2))).toThrow(new RegExp(`set up anew on purpose, delete ${file}`));
});

test('a key that the app gave is the only one trusted', async () => {
  const pin = await KeyPin.open({ storage: new FolderStorage(await folder()), given: key(3) });
  expect(() => pin.pin(key(4))).toThrow(/pass that key as trustKey/);
  await expect(KeyPin.open({ given: key(3).subarray(1) })).rejects.toThrow(/32 raw bytes/);
});

test('a lower version than one offered before is refused, over restarts', async () => {
  const place = { storage: new FolderStorage(await folder()), path: 'models/m/highest' };
  const first = await Ratchet.open(place);
  first.raise('m', 3);
  first.raise('m', 9);
  first.raise('m', 9);
  await first.saved();
  const second = await Ratchet.open(place);
  expect(() => second.raise('m', 8)).toThrow(/version 8 of 'm' was offered after version 9/);
});

test('a ratchet whose file lost its content is damaged, and does not begin again at 0', async () => {
  const path = await folder();
  const place = { storage: new FolderStorage(path), path: 'highest' };
  for (const content of ['', 'x', '-3\n', '1.5\n']) {
    await writeFile(join(path, 'highest'), content);
    await expect(Ratchet.open(place)).rejects.toThrow(/is damaged; delete it to start anew/);
  }
});

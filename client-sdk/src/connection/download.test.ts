import { expect, test } from 'vitest';
import { TransportError } from '../errors.ts';
import { sha256 } from '../trust/sha256.ts';
import { Backoff } from './backoff.ts';
import { downloadBlob, type BlobChunk } from './download.ts';

const blob = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
const digest = sha256(blob);
const now = { sha256, backoff: new Backoff({ random: () => 0 }) };

function chunk(offset: number, data: Uint8Array = blob.subarray(offset, offset + 300)): BlobChunk {
  return { offset, totalSize: blob.length, data };
}

test('a download resumes where a break left off', async () => {
  const offsets: number[] = [];
  const read = async function* (_: Uint8Array, offset: number): AsyncGenerator<BlobChunk> {
    offsets.push(offset);
    yield chunk(offset);
    throw new TransportError('unavailable', 'cut');
  };
  expect(await downloadBlob(read, digest, blob.length, now)).toEqual(blob);
  expect(offsets).toEqual([0, 300, 600, 900]);
});

test('a damaged blob is fetched again, three times at most', async () => {
  let copies = 0;
  const anew: boolean[] = [];
  const damagedUntil = (good: number) =>
    async function* (_: Uint8Array, offset: number, __: AbortSignal, isAnew: boolean): AsyncGenerator<BlobChunk> {
      copies += 1;
      anew.push(isAnew);
      const data = blob.slice(offset);
      if (copies < good) data[7] = (data[7] ?? 0) ^ 1;
      yield chunk(offset, data);
    };
  expect(await downloadBlob(damagedUntil(3), digest, blob.length, now)).toEqual(blob);
  // What is in a cache between is as damaged as the first copy.
  expect(anew).toEqual([false, true, true]);
  copies = 0;
  await expect(downloadBlob(damagedUntil(99), digest, blob.length, now)).rejects.toMatchObject({ code: 'corrupted' });
  expect(copies).toBe(3);
});

test('a blob of another size than the manifest names is refused at its first chunk', async () => {
  const read = async function* (): AsyncGenerator<BlobChunk> {
    yield { offset: 0, totalSize: 2 ** 40, data: blob };
  };
  await expect(downloadBlob(read, digest, blob.length, now)).rejects.toThrow(/is not the 1000 bytes/);
});

test('what the coordinator does not have is not asked for again', async () => {
  let tries = 0;
  const read = async function* (): AsyncGenerator<BlobChunk> {
    tries += 1;
    if (tries > 0) throw new TransportError('not-found', 'no such blob');
    yield chunk(0);
  };
  await expect(downloadBlob(read, digest, blob.length, now)).rejects.toMatchObject({ code: 'not-found' });
  expect(tries).toBe(1);
});

test('a download that stalls is resumed, and given up when nothing ever comes', async () => {
  let tries = 0;
  const read = async function* (_: Uint8Array, offset: number, signal: AbortSignal): AsyncGenerator<BlobChunk> {
    tries += 1;
    if (tries === 1) yield chunk(offset);
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  };
  const options = { ...now, idleMs: 5, triesMax: 3 };
  await expect(downloadBlob(read, digest, blob.length, options)).rejects.toThrow(/stands still at 300 of 1000 bytes/);
  expect(tries).toBe(4);
});

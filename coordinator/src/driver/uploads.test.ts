import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { ServiceError } from '../service.ts';
import { Uploads } from './uploads.ts';

const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i % 251);

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'commonweight-uploads-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'uploads');
}

const places = [
  ['in memory', {}],
  ['on disk', { memoryBytesMax: 0 }],
] as const;

test.each(places)(
  'chunks %s in order, lost, doubled or out of place give the payload or the place to go on',
  (_, limits) => {
    const folder = temporaryFolder();
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 60 }), fc.array(fc.tuple(fc.nat(80), fc.nat(30))), (size, chunks) => {
        const uploads = new Uploads(() => 0, folder, limits);
        const payload = bytes(size);
        let held = 0;
        for (const [offset, length] of chunks) {
          const data = payload.slice(offset, offset + length);
          const got = uploads.receive('a', 'id', size, offset, data);
          if (got.payload !== undefined) {
            expect(got.payload).toEqual(payload);
            held = 0;
            continue;
          }
          if (offset === held) held += data.length;
          expect(got.offset).toBe(held);
          expect(uploads.offset('id')).toBe(held);
        }
      }),
    );
  },
);

test('a newer update of the same agent takes the place of the older', () => {
  const uploads = new Uploads(() => 0, temporaryFolder());
  uploads.receive('a', 'old', 10, 0, bytes(4));
  uploads.receive('a', 'new', 10, 0, bytes(3));
  expect([uploads.offset('old'), uploads.offset('new')]).toEqual([0, 3]);
});

test('when there is no room, what is idle goes and what is under way stays', () => {
  let nowMs = 0;
  const uploads = new Uploads(() => nowMs, temporaryFolder(), { bytesMax: 100 });
  uploads.receive('idle', 'i', 60, 0, bytes(1));
  nowMs = 29_000;
  expect(() => uploads.receive('late', 'l', 60, 0, bytes(1))).toThrow(ServiceError);
  uploads.receive('busy', 'b', 40, 0, bytes(1));
  nowMs = 31_000;
  uploads.receive('late', 'l', 60, 0, bytes(1));
  expect([uploads.offset('i'), uploads.offset('b'), uploads.offset('l')]).toEqual([0, 1, 1]);
});

test('what memory has no room for waits in files, which go with it', () => {
  const folder = temporaryFolder();
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'of a process that is no more'), 'x');
  const uploads = new Uploads(() => 0, folder, { memoryBytesMax: 100 });
  expect(existsSync(folder)).toBe(false);
  uploads.receive('a', 'first', 80, 0, bytes(40));
  uploads.receive('b', 'second', 80, 0, bytes(40));
  uploads.receive('c', 'third', 80, 0, bytes(40));
  expect(readdirSync(folder).toSorted()).toEqual(['second', 'third']);
  expect(uploads.receive('b', 'second', 80, 40, bytes(80).slice(40)).payload).toEqual(bytes(80));
  uploads.receive('c', 'newer', 10, 0, bytes(4));
  expect(readdirSync(folder)).toEqual([]);
  expect(uploads.receive('a', 'first', 80, 40, bytes(80).slice(40)).payload).toEqual(bytes(80));
});

test('a file that is gone, or that nothing can be written to, costs the upload and nothing else', () => {
  const folder = temporaryFolder();
  const uploads = new Uploads(() => 0, folder, { memoryBytesMax: 0 });
  uploads.receive('a', 'id', 80, 0, bytes(40));
  rmSync(folder, { recursive: true });
  expect(() => uploads.receive('a', 'id', 80, 40, bytes(40))).toThrow(ServiceError);
  expect(uploads.offset('id')).toBe(0);
  writeFileSync(folder, 'in the way');
  expect(() => uploads.receive('a', 'id', 80, 0, bytes(40))).toThrow(/no room for an upload/);
  rmSync(folder);
  uploads.receive('a', 'id', 80, 0, bytes(40));
  expect(uploads.receive('a', 'id', 80, 40, bytes(80).slice(40)).payload).toEqual(bytes(80));
});

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ServiceError } from '../service.ts';
import { Uploads } from './uploads.ts';

const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i % 251);

test('chunks in order, lost, doubled or out of place give the payload or the place to go on', () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 60 }), fc.array(fc.tuple(fc.nat(80), fc.nat(30))), (size, chunks) => {
      const uploads = new Uploads(() => 0);
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
});

test('a newer update of the same agent takes the place of the older', () => {
  const uploads = new Uploads(() => 0);
  uploads.receive('a', 'old', 10, 0, bytes(4));
  uploads.receive('a', 'new', 10, 0, bytes(3));
  expect([uploads.offset('old'), uploads.offset('new')]).toEqual([0, 3]);
});

test('when there is no room, what is idle goes and what is under way stays', () => {
  let nowMs = 0;
  const uploads = new Uploads(() => nowMs, 100);
  uploads.receive('idle', 'i', 60, 0, bytes(1));
  nowMs = 29_000;
  expect(() => uploads.receive('late', 'l', 60, 0, bytes(1))).toThrow(ServiceError);
  uploads.receive('busy', 'b', 40, 0, bytes(1));
  nowMs = 31_000;
  uploads.receive('late', 'l', 60, 0, bytes(1));
  expect([uploads.offset('i'), uploads.offset('b'), uploads.offset('l')]).toEqual([0, 1, 1]);
});

import { constants, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { inflated } from './inflate.ts';

const zeros = (bytes: number): Uint8Array => zstdCompressSync(new Uint8Array(bytes));

test('what was compressed comes back; what was not is as it is', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 5000 }), (raw) => {
      const payload = zstdCompressSync(raw);
      expect(Buffer.compare(inflated({ rawSize: BigInt(raw.length) }, payload)!, raw)).toBe(0);
      expect(inflated({ rawSize: 0n }, payload)).toBe(payload);
    }),
  );
});

describe('what is no payload of the size that its header says', () => {
  test.each([
    ['a bomb: a gigabyte in some kilobytes', zeros(2 ** 28), 1_000_000n],
    ['one byte too many', zeros(101), 100n],
    ['one byte too few', zeros(99), 100n],
    ['cut short', zeros(5000).subarray(0, 10), 5000n],
    ['nothing', new Uint8Array(), 100n],
    ['no frame', new Uint8Array(50).fill(7), 100n],
    ['a frame to be skipped', Uint8Array.of(0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 1), 100n],
  ])('%s', (_, payload, rawSize) => {
    const before = process.memoryUsage().arrayBuffers;
    expect(inflated({ rawSize }, payload)).toBeUndefined();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 * Number(rawSize) + 2 ** 20);
  });

  test('any bytes are a payload or not, and no more than the size is made of them', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.bigInt({ min: 1n, max: 10_000n }), (payload, rawSize) => {
        const raw = inflated({ rawSize }, payload);
        expect(raw === undefined || raw.length === Number(rawSize)).toBe(true);
      }),
    );
  });
});

test('a frame that asks for more memory than ours do is none', () => {
  const noise = Uint8Array.from({ length: 2 ** 24 + 1000 }, (_, i) => (i * 2654435761) >>> 13);
  const params = { [constants.ZSTD_c_windowLog]: 24, [constants.ZSTD_c_contentSizeFlag]: 0 };
  const payload = zstdCompressSync(noise, { params });
  expect(inflated({ rawSize: BigInt(noise.length) }, payload)).toBeUndefined();
});

import { zstdDecompressSync } from 'node:zlib';
import { encodings, gridFor, seeded } from '@commonweight/core';
import { expect, test } from 'vitest';
import { deflated } from './deflate.ts';

const grid = gridFor({ valueMaxExponent: 3, weightMax: 1000, cohortMax: 10 });

test('a payload is compressed where that pays, and sent as it is where it does not', () => {
  const random = seeded(1);
  const noise = Uint8Array.from({ length: 5000 }, () => random.integer(256));
  expect(deflated(noise)).toEqual({ payload: noise, rawSize: 0 });
  expect(deflated(new Uint8Array())).toEqual({ payload: new Uint8Array(), rawSize: 0 });
  const values = Float32Array.from({ length: 20_000 }, (_, i) => (i % 3 === 0 ? 0 : random.normal() * 0.01));
  const payload = encodings.mxint4.encode(values, grid, random);
  const sent = deflated(payload);
  expect(sent.rawSize).toBe(payload.length);
  expect(sent.payload.length).toBeLessThan(0.8 * payload.length);
  expect(Buffer.compare(zstdDecompressSync(sent.payload), payload)).toBe(0);
});

test('the same payload is compressed to the same bytes', () => {
  const payload = new Uint8Array(1000).fill(3);
  expect(deflated(payload)).toEqual(deflated(payload));
});

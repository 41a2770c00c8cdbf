import { expect, test } from 'vitest';
import { outputTo, toJson } from './output.ts';

test('64-bit counts become numbers, bytes become hex', () => {
  expect(toJson({ count: 7n, digest: Buffer.from([1, 255]), raw: Uint8Array.of(16), list: [1n] })).toBe(
    '{"count":7,"digest":"01ff","raw":"10","list":[1]}',
  );
});

test('machines get records and people get text', () => {
  const written: string[] = [];
  outputTo((text) => written.push(text)).say('hello', { event: 'hello' });
  outputTo((text) => written.push(text), { json: true }).say('hello', { event: 'hello' });
  expect(written).toEqual(['hello\n', '{"event":"hello"}\n']);
});

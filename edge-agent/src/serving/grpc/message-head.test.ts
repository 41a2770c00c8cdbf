import { expect, test } from 'vitest';
import { messageHeadReader } from './message-head.ts';

test('the length of a message is known with its fifth byte, however the bytes come', () => {
  const bytes = Uint8Array.of(0, 0x04, 0x03, 0x02, 0x01, 9, 9);
  for (let cut = 1; cut < 5; cut++) {
    const read = messageHeadReader();
    expect(read(bytes.subarray(0, cut))).toBeUndefined();
    expect(read(bytes.subarray(cut))).toEqual({ isCompressed: false, bytes: 0x04030201 });
  }
});

test('a length is unsigned, and a compressed message says so', () => {
  expect(messageHeadReader()(Uint8Array.of(1, 0xff, 0xff, 0xff, 0xff))).toEqual({
    isCompressed: true,
    bytes: 2 ** 32 - 1,
  });
});

import { create, fromBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  AgentServiceDownloadResponseSchema,
  SessionResponseSchema,
  SubmitUpdateRequestSchema,
  UpdateHeaderSchema,
  type SessionResponse,
} from '../gen/commonweight/v1/agent_pb.ts';
import { constant, toBytes } from './to-bytes.ts';

const LENGTHS = fc.constantFrom(0, 1, 4095, 4096, 16_383, 16_384, 524_288, 2_097_152);

test('what is written is read again, whatever the size of the data, and the message stays as it was', () => {
  fc.assert(
    fc.property(LENGTHS, fc.nat(), fc.boolean(), (length, offset, isFirst) => {
      const data = new Uint8Array(length).map((_, i) => i % 251);
      const header = create(UpdateHeaderSchema, { agentId: 'a', task: 'train', round: 3n });
      const fields = { offset: BigInt(offset), data, ...(isFirst ? { header } : {}) };
      const message = create(SubmitUpdateRequestSchema, fields);
      const bytes = toBytes(SubmitUpdateRequestSchema, message);
      expect(message.data).toBe(data);
      const read = fromBinary(SubmitUpdateRequestSchema, bytes);
      expect(read.offset).toBe(BigInt(offset));
      expect(Buffer.from(read.data).equals(data)).toBe(true);
      expect(read.header).toEqual(isFirst ? header : undefined);
    }),
    { numRuns: 40 },
  );
});

test('a message of data alone', () => {
  const data = new Uint8Array(5000).fill(7);
  const bytes = toBytes(AgentServiceDownloadResponseSchema, create(AgentServiceDownloadResponseSchema, { data }));
  // Field 3, of bytes: a tag of one byte, a length of two.
  expect([...bytes.subarray(0, 4)]).toEqual([0x1a, 0x88, 0x27, 7]);
  expect(bytes.length).toBe(5003);
});

test('the bytes of a constant are made once, and are those of any other', () => {
  const alive = (): SessionResponse => create(SessionResponseSchema, { message: { case: 'alive', value: {} } });
  const message = constant(SessionResponseSchema, alive());
  expect(toBytes(SessionResponseSchema, message)).toBe(toBytes(SessionResponseSchema, message));
  expect(toBytes(SessionResponseSchema, message)).toEqual(toBytes(SessionResponseSchema, alive()));
});

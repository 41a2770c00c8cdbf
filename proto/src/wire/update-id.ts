import type { UpdateHeader } from '../gen/commonweight/v1/agent_pb.ts';
import { utf8 } from './utf8.ts';

/** SHA-256 of some bytes: node:crypto on Node, WebCrypto or a library elsewhere. */
export type Sha256 = (bytes: Uint8Array) => Uint8Array;

/** What an update's id is made of. */
export interface UpdateIdentity {
  agentId: string;
  task: string;
  round: number;
  baseVersion: number;
  payloadDigest: Uint8Array;
}

/**
 * The id of an update: SHA-256(agent id ‖ task ‖ round ‖ base version ‖ payload digest), each part behind its
 * length as a 32-bit big-endian number. The same bytes always have the same id, so a retry is recognised.
 */
export function updateId<Digest>(update: UpdateIdentity, sha256: (bytes: Uint8Array) => Digest): Digest {
  const { agentId, baseVersion, payloadDigest, round, task } = update;
  return digestOf([...[agentId, task, round, baseVersion].map((part) => utf8(String(part))), payloadDigest], sha256);
}

/**
 * The digest of a header: SHA-256(update id ‖ encoding ‖ weight ‖ payload size ‖ raw size, where there is one ‖ invitation ‖ name and value
 * of each metric by name), each part behind its length as in an update id; whole numbers as decimal text, values as float64, big-endian.
 * What the id covers is not covered again.
 */
export function headerDigest<Digest>(header: UpdateHeader, sha256: (bytes: Uint8Array) => Digest): Digest {
  const { encoding, invitation, metrics, payloadSize, rawSize, updateId: id, weight } = header;
  const named = Object.entries(metrics)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([name, value]) => [utf8(name), float64(value)]);
  // One part more, and an even number of them: no other header has the same parts.
  const sizes = rawSize === 0n ? [payloadSize] : [payloadSize, rawSize];
  const numbers = [encoding, weight, ...sizes].map((part) => utf8(String(part)));
  return digestOf([id, ...numbers, invitation, ...named], sha256);
}

function float64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value);
  return bytes;
}

/** SHA-256 over parts, each behind its length as a 32-bit big-endian number. Where that has to be waited for, so has this. */
export function digestOf<Digest>(parts: readonly Uint8Array[], sha256: (bytes: Uint8Array) => Digest): Digest {
  const message = new Uint8Array(parts.reduce((bytes, part) => bytes + 4 + part.length, 0));
  const view = new DataView(message.buffer);
  let offset = 0;
  for (const part of parts) {
    view.setUint32(offset, part.length);
    message.set(part, offset + 4);
    offset += 4 + part.length;
  }
  return sha256(message);
}

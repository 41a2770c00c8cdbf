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
export function updateId(update: UpdateIdentity, sha256: Sha256): Uint8Array {
  const parts = [
    utf8(update.agentId),
    utf8(update.task),
    utf8(String(update.round)),
    utf8(String(update.baseVersion)),
    update.payloadDigest,
  ];
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

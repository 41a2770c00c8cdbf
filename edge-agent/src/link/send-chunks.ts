import { ChunkWindow } from '@commonweight/client-sdk';
import type { SubmitUpdateResponse } from '@commonweight/proto';

/** What this part of an answer says: how far the coordinator is, and whether the update has an end. */
export type ChunkAnswer = Pick<SubmitUpdateResponse, 'accepted' | 'receipt' | 'offset'>;

/**
 * Sends the chunks of a payload from an offset, several at once, until an answer decides or none of them brings the coordinator further; gives
 * the last answer. `send` sends the chunk at an offset and throws where it cannot.
 */
export async function sendChunks<T extends ChunkAnswer>(
  send: (offset: number) => Promise<T>,
  { from, size, chunkBytes }: { from: number; size: number; chunkBytes: number },
): Promise<T> {
  for (let start = from; ;) {
    const last = await sentFrom(start, size, chunkBytes, send);
    const held = Number(last.offset);
    // Not further than before: the caller asks where to go on.
    if (decides(last) || held <= start || held >= size) return last;
    start = held;
  }
}

/** Until an answer decides, or a chunk was not taken. */
async function sentFrom<T extends ChunkAnswer>(
  start: number,
  size: number,
  chunkBytes: number,
  send: (offset: number) => Promise<T>,
): Promise<T> {
  const window = new ChunkWindow<T>();
  // An update of no bytes is one chunk as well.
  const end = Math.max(size, start + 1);
  let sent = start;
  for (let taken = start; ;) {
    for (; sent < end && window.underWay < window.size; sent += chunkBytes) {
      const offset = sent;
      window.ask(() => send(offset));
    }
    const answer = await window.next();
    if (decides(answer)) return answer;
    taken = Math.min(taken + chunkBytes, size);
    if (Number(answer.offset) === taken && taken < size) continue;
    // What follows a chunk that was not taken is not taken either.
    const answers = [answer];
    while (window.underWay > 0) answers.push(await window.next());
    return answers.find(decides) ?? answers.reduce((best, other) => (other.offset > best.offset ? other : best));
  }
}

const decides = ({ accepted, receipt }: ChunkAnswer): boolean => accepted || receipt !== undefined;

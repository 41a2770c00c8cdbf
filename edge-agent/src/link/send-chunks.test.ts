import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sendChunks, type ChunkAnswer } from './send-chunks.ts';

const CHUNK_BYTES = 10;

/** Takes chunks as the coordinator does: those that follow. */
class Receiver {
  offset: number;
  readonly sent: number[] = [];
  atOnce = 0;
  readonly #size: number;
  #underWay = 0;

  constructor(size: number, offset = 0) {
    this.#size = size;
    this.offset = offset;
  }

  /** A chunk that arrives after so many turns of the event loop, so that others overtake it. */
  async take(offset: number, turns: number): Promise<ChunkAnswer> {
    this.sent.push(offset);
    this.atOnce = Math.max(this.atOnce, (this.#underWay += 1));
    for (let i = 0; i <= turns; i++) await new Promise((resolve) => setImmediate(resolve));
    this.#underWay -= 1;
    if (offset === this.offset) this.offset = Math.min(offset + CHUNK_BYTES, this.#size);
    return { offset: BigInt(this.offset), accepted: this.offset === this.#size };
  }
}

const sizes = { chunkBytes: CHUNK_BYTES };

test('chunks that come in order are sent once each, many at once', async () => {
  const receiver = new Receiver(605);
  const last = await sendChunks((offset) => receiver.take(offset, 3), { ...sizes, from: 0, size: 605 });
  expect(last.accepted).toBe(true);
  expect(receiver.sent).toEqual(Array.from({ length: 61 }, (_, i) => i * CHUNK_BYTES));
  expect(receiver.atOnce).toBeGreaterThan(8);
});

test('whatever order they arrive in, and wherever it begins, what is sent brings the coordinator to the end', async () => {
  const cases = fc.record({ size: fc.integer({ min: 0, max: 400 }), seed: fc.nat(), begun: fc.nat(39) });
  await fc.assert(
    fc.asyncProperty(cases, async ({ size, seed, begun }) => {
      const receiver = new Receiver(size, Math.min(begun * CHUNK_BYTES, Math.floor(size / CHUNK_BYTES) * CHUNK_BYTES));
      const send = (offset: number) => receiver.take(offset, (offset * 7919 + seed) % 4);
      let last: ChunkAnswer | undefined;
      // As the agent does: it asks where to go on when an answer brings it no further.
      for (let tries = 0; tries < 100 && last?.accepted !== true; tries++) {
        const before = receiver.offset;
        last = await sendChunks(send, { ...sizes, from: before, size });
        expect(receiver.offset).toBeGreaterThanOrEqual(Math.min(before + CHUNK_BYTES, size));
      }
      expect(last?.accepted).toBe(true);
    }),
    { numRuns: 100 },
  );
});

test('a refusal ends it, an offset that does not rise is for the caller, and what fails is thrown', async () => {
  const answers: ChunkAnswer = { offset: 0n, accepted: false };
  let sent = 0;
  const again = async () => ((sent += 1), answers);
  expect(await sendChunks(again, { ...sizes, from: 0, size: 1000 })).toBe(answers);
  expect(sent).toBe(1);
  const refused = { ...answers, offset: 1000n, receipt: {} as NonNullable<ChunkAnswer['receipt']> };
  expect(await sendChunks(async () => refused, { ...sizes, from: 0, size: 1000 })).toBe(refused);
  const failing = async (offset: number) => {
    if (offset > 100) throw new Error(`no ${offset}`);
    return { offset: BigInt(offset + CHUNK_BYTES), accepted: false };
  };
  await expect(sendChunks(failing, { ...sizes, from: 0, size: 1000 })).rejects.toThrow('no 110');
});

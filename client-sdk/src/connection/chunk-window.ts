import type { BlobChunk } from './download.ts';

/** 8 MiB of chunks: over a round trip of 40 ms up to 200 MB/s. */
const CHUNKS_MAX = 16;
/** A chunk that is answered within this time is far from the deadline of a request: one more may be under way. */
const QUICK_MS = 500;
const SLOW_MS = 2_000;

/**
 * Questions about chunks that are under way, their answers in the order of the questions: on a link with a long way to go each alone would
 * cost a round trip, and on a slow one many at once would miss their deadlines.
 */
export class ChunkWindow<T> {
  #size = 1;
  #underWay: Promise<T>[] = [];

  /** How many may be under way. */
  get size(): number {
    return this.#size;
  }

  /** How many are: asked, and not yet taken by `next`. */
  get underWay(): number {
    return this.#underWay.length;
  }

  ask(question: () => Promise<T>): void {
    const [startMs, sizeThen] = [performance.now(), this.#size];
    const answer = question().then((value) => {
      this.passed(performance.now() - startMs, sizeThen);
      return value;
    });
    // Of several that fail the first is told; of those that nobody waits for any more, none.
    answer.catch(() => {});
    this.#underWay.push(answer);
  }

  /** The answer to the oldest question. Throws what it failed with. */
  next(): Promise<T> {
    const [oldest, ...others] = this.#underWay;
    if (oldest === undefined) throw new Error('nothing was asked');
    this.#underWay = others;
    return oldest;
  }

  /** What is still under way is not waited for. */
  forget(): void {
    this.#underWay = [];
  }

  /** A chunk came through in so many milliseconds, one of so many at once. */
  passed(tookMs: number, sizeThen: number = this.#size): void {
    if (tookMs < QUICK_MS) this.#size = Math.min(this.#size + 1, CHUNKS_MAX);
    // All that were under way together are slow for one reason, and halve it once.
    else if (tookMs > SLOW_MS) this.#size = Math.min(this.#size, Math.ceil(sizeThen / 2));
  }
}

/**
 * The chunks of a blob from an offset to its end, in their order, several asked for at once. Ends early where one is empty, and at `size` whatever
 * the other side says that there is.
 */
export async function* chunksAhead(
  ask: (offset: number) => Promise<{ data: Uint8Array; totalSize: number }>,
  {
    from,
    size = Infinity,
    chunkBytes,
    signal,
  }: { from: number; size?: number; chunkBytes: number; signal: AbortSignal },
): AsyncGenerator<BlobChunk> {
  const window = new ChunkWindow<{ data: Uint8Array; totalSize: number }>();
  // Where nobody knows how long it is, the first chunk says.
  let end = size;
  let asked = from;
  const askAhead = (): void => {
    for (; asked < end && window.underWay < (end === Infinity ? 1 : window.size); asked += chunkBytes) {
      const offset = asked;
      window.ask(() => ask(offset));
    }
  };
  for (let at = from; at < end && !signal.aborted;) {
    askAhead();
    const { data, totalSize } = await window.next();
    if (data.length === 0) return;
    end = Math.min(size, totalSize);
    const offset = at;
    at += data.length;
    // What was asked for after it is next to one of the length that was wanted.
    if (data.length !== chunkBytes) {
      window.forget();
      asked = at;
    }
    if (!signal.aborted) askAhead();
    yield { offset, totalSize, data };
  }
}

import type { BlobChunk } from './download.ts';

const CHUNKS_MAX = 16;
/** Twice as many chunks within this time are far from the deadline of a request. */
const QUICK_MS = 500;
const SLOW_MS = 2_000;

/**
 * How many chunks are under way at once: on a link with a long way to go each alone would cost a round trip, and on a slow one many at once
 * would miss their deadlines.
 */
export class ChunkWindow {
  #size = 1;

  get size(): number {
    return this.#size;
  }

  /** So many came through, in so many milliseconds. */
  passed(tookMs: number): void {
    if (tookMs < QUICK_MS) this.#size = Math.min(2 * this.#size, CHUNKS_MAX);
    else if (tookMs > SLOW_MS) this.#size = Math.ceil(this.#size / 2);
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
  const window = new ChunkWindow();
  // Where nobody knows how long it is, the first chunk says.
  let end = size;
  for (let at = from; at < end && !signal.aborted;) {
    const left = end === Infinity ? 1 : Math.ceil((end - at) / chunkBytes);
    const startMs = performance.now();
    const asked = Array.from({ length: Math.min(window.size, left) }, (_, i) => ask(at + i * chunkBytes));
    const chunks = await Promise.all(asked);
    window.passed(performance.now() - startMs);
    for (const { data, totalSize } of chunks) {
      if (data.length === 0) return;
      end = Math.min(size, totalSize);
      yield { offset: at, totalSize, data };
      at += data.length;
      // What was asked for after it is next to one of the length that was wanted.
      if (data.length !== chunkBytes) break;
    }
  }
}

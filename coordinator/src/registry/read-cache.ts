/** So many are kept: of blobs of a few bytes, what is around each takes more than the bytes do. */
const KEPT_MAX = 256;

/**
 * What was read last, up to a number of bytes: when a thousand agents are invited at once they all read the same bytes, and reading
 * them anew means checking their digest anew. Reads that are under way are shared.
 */
export class ReadCache {
  readonly #bytesMax: number;
  /** Least recently used first. */
  readonly #kept = new Map<string, Uint8Array>();
  readonly #underWay = new Map<string, Promise<Uint8Array>>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** What is kept under a key, or what `read` gives. The bytes are not to be changed. */
  async get(key: string, read: () => Promise<Uint8Array>): Promise<Uint8Array> {
    const kept = this.#kept.get(key);
    if (kept !== undefined) {
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      return kept;
    }
    const known = this.#underWay.get(key);
    if (known !== undefined) return known;
    const reading = read();
    this.#underWay.set(key, reading);
    try {
      const bytes = await reading;
      this.#keep(key, bytes);
      return bytes;
    } finally {
      this.#underWay.delete(key);
    }
  }

  #keep(key: string, bytes: Uint8Array): void {
    if (bytes.length > this.#bytesMax) return;
    this.#kept.set(key, bytes);
    this.#bytes += bytes.length;
    for (const [oldest, { length }] of this.#kept) {
      if (this.#bytes <= this.#bytesMax && this.#kept.size <= KEPT_MAX) return;
      this.#kept.delete(oldest);
      this.#bytes -= length;
    }
  }
}

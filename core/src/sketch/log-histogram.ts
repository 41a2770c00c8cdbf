/** A quarter of an octave each: what is read out is at most 9 % off. */
const PER_OCTAVE = 4;
/** The first bucket begins at 2^-7 ms. */
const FIRST_OCTAVE = -7;
export const BUCKETS = 96;

/** Times in fixed logarithmic buckets from 8 microseconds to 2 minutes; histograms of the same thing add up, in any order. */
export class LogHistogram {
  /** Counts from bucket `#first` on: most of what is counted lies close together. */
  #counts: number[] = [];
  #first = 0;
  #total = 0;

  static of(entries: Iterable<readonly [bucket: number, count: number]>): LogHistogram {
    const histogram = new LogHistogram();
    for (const [bucket, count] of entries) histogram.#add(bucket, count);
    return histogram;
  }

  get count(): number {
    return this.#total;
  }

  add(ms: number, count: number = 1): void {
    const bucket = Math.floor(PER_OCTAVE * (Math.log2(ms) - FIRST_OCTAVE));
    // The logarithm of nothing is none.
    this.#add(ms > 0 ? Math.min(BUCKETS - 1, Math.max(0, bucket)) : 0, count);
  }

  merge(other: LogHistogram, times: number = 1): void {
    for (const [bucket, count] of other.entries()) this.#add(bucket, count * times);
  }

  /** Buckets that hold something, rising. */
  *entries(): Generator<readonly [bucket: number, count: number]> {
    for (const [i, count] of this.#counts.entries()) if (count > 0) yield [this.#first + i, count];
  }

  /** The middle of the bucket that the quantile lies in; NaN where there is nothing. */
  quantile(q: number): number {
    let left = q * this.#total;
    let last = Number.NaN;
    for (const [bucket, count] of this.entries()) {
      last = 2 ** ((bucket + 0.5) / PER_OCTAVE + FIRST_OCTAVE);
      left -= count;
      if (left <= 0) break;
    }
    return last;
  }

  #add(bucket: number, count: number): void {
    if (this.#counts.length === 0) this.#first = bucket;
    while (bucket < this.#first) {
      this.#counts.unshift(0);
      this.#first -= 1;
    }
    while (bucket >= this.#first + this.#counts.length) this.#counts.push(0);
    this.#counts[bucket - this.#first]! += count;
    this.#total += count;
  }
}

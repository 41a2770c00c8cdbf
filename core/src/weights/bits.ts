/** Bits one after the other, the lowest of a byte first. */
export class BitWriter {
  readonly #bytes: number[] = [];
  #byte = 0;
  #used = 0;

  /** Appends the lowest `count` bits of a number, up to 31. */
  write(number: number, count: number): void {
    for (let bit = 0; bit < count; bit++) {
      this.#byte |= ((number >>> bit) & 1) << this.#used;
      if (++this.#used < 8) continue;
      this.#bytes.push(this.#byte);
      this.#byte = 0;
      this.#used = 0;
    }
  }

  /** All of them, the last byte filled up with zeros. */
  bytes(): Uint8Array {
    return Uint8Array.from(this.#used === 0 ? this.#bytes : [...this.#bytes, this.#byte]);
  }
}

/** Reads what a BitWriter wrote; past the end there are zeros. */
export class BitReader {
  readonly #bytes: Uint8Array;
  readonly #start: number;
  #bit = 0;

  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes;
    this.#start = start;
  }

  read(count: number): number {
    let number = 0;
    for (let bit = 0; bit < count; bit++, this.#bit++) {
      const byte = this.#bytes[this.#start + (this.#bit >>> 3)] ?? 0;
      number |= ((byte >>> (this.#bit & 7)) & 1) << bit;
    }
    return number;
  }

  /** Where the byte after those that were read stands. */
  get end(): number {
    return this.#start + Math.ceil(this.#bit / 8);
  }
}

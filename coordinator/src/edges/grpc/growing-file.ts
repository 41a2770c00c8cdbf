import { BLOB_BYTES_MAX } from '@commonweight/proto';
import { ServiceError } from '../../service.ts';

const FIRST_BYTES = 1024 * 1024;

/** A file that comes in chunks. Where its size is known room is made once; memory that nothing was written to costs nothing. */
export class GrowingFile {
  #room: Uint8Array;
  #size = 0;

  /** `expected` is 0 where nobody knows; it may be wrong. Throws ServiceError where it is too large. */
  constructor(expected: number) {
    if (expected > BLOB_BYTES_MAX) throw tooLarge();
    this.#room = Buffer.allocUnsafeSlow(expected > 0 ? expected : FIRST_BYTES);
  }

  add(chunk: Uint8Array): void {
    const size = this.#size + chunk.length;
    if (size > BLOB_BYTES_MAX) throw tooLarge();
    if (size > this.#room.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(BLOB_BYTES_MAX, Math.max(size, 2 * this.#room.length)));
      larger.set(this.#room.subarray(0, this.#size));
      this.#room = larger;
    }
    this.#room.set(chunk, this.#size);
    this.#size = size;
  }

  bytes(): Uint8Array {
    return this.#room.subarray(0, this.#size);
  }
}

const tooLarge = (): ServiceError => new ServiceError('invalid', `a model may have up to ${BLOB_BYTES_MAX} bytes`);

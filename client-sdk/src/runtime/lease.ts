/** Something that is in use by many and let go of by one: the last user out releases it. */
export class Leased<T> {
  readonly value: T;
  readonly #release: (value: T) => Promise<void>;
  readonly #gone: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  #leases = 0;
  #retired = false;

  constructor(value: T, release: (value: T) => Promise<void>) {
    this.value = value;
    this.#release = release;
    this.#gone.promise.catch(() => {});
  }

  /** Runs with the value held. */
  async use<R>(work: (value: T) => Promise<R>): Promise<R> {
    this.#leases += 1;
    try {
      return await work(this.value);
    } finally {
      this.#leases -= 1;
      this.#releaseIfIdle();
    }
  }

  /** No more users come; resolves when the last has left and the value is released. */
  retire(): Promise<void> {
    if (!this.#retired) {
      this.#retired = true;
      this.#releaseIfIdle();
    }
    return this.#gone.promise;
  }

  #releaseIfIdle(): void {
    if (this.#retired && this.#leases === 0) this.#release(this.value).then(this.#gone.resolve, this.#gone.reject);
  }
}

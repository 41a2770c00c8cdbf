import { StoreError, type Store } from '../store/store.ts';

/** How many of a model's newest versions are kept whole. */
export interface KeepVersions {
  /** Of every model that `models` does not name; undefined is all. */
  each?: number;
  models: Readonly<Record<string, number>>;
}

/** Fewer would take a version from under those who are just downloading it. */
export const KEEP_VERSIONS_MIN = 2;

/** Lets the blobs of older versions go by policy, in the background, one model after the other. */
export class Collector {
  readonly #store: Store;
  readonly #keep: KeepVersions;
  readonly #world: { log: (line: string) => void; failed: (error: unknown) => void };
  /** Models that wait for their turn. */
  readonly #due = new Set<string>();
  #work: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(
    store: Store,
    keep: KeepVersions,
    world: { log: (line: string) => void; failed: (error: unknown) => void },
  ) {
    this.#store = store;
    this.#keep = keep;
    this.#world = world;
  }

  /** A model has a new version. Where one fails, the next version of the model asks again. */
  collect(model: string): void {
    const keep = this.#keep.models[model] ?? this.#keep.each;
    if (keep === undefined || this.#due.has(model)) return;
    this.#due.add(model);
    this.#work = this.#work.then(async () => {
      this.#due.delete(model);
      await this.#collect(model, keep).catch((error: unknown) => this.#fail(error));
    });
  }

  async #collect(model: string, keep: number): Promise<void> {
    while (!this.#isClosed) {
      const { versions, bytes } = await this.#store.collect(model, keep);
      const [first] = versions;
      if (first === undefined) return;
      const which = versions.length === 1 ? `version ${first}` : `versions ${first} to ${versions.at(-1)}`;
      this.#world.log(`${model}: ${which} collected, ${bytes} bytes`);
    }
  }

  #fail(error: unknown): void {
    // A manifest that is damaged is no reason to end: what is there is still served.
    if (error instanceof StoreError && error.kind === 'refused') this.#world.log(error.message);
    else this.#world.failed(error);
  }

  /** Ends after the transaction that is under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#work;
  }
}

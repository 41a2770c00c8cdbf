import { sleep } from '../connection/backoff.ts';
import { asError, ModelError } from '../errors.ts';
import type { Tensor, TypedTensor } from '../runtime/tensor.ts';
import type { Inputs } from './inputs.ts';
import { feedsFor } from './inputs.ts';
import type { Life } from './life.ts';
import type { Staged } from './stage.ts';

/** Calls that wait for a swap. */
const QUEUE_MAX = 1024;
const QUEUE_MS = 10_000;

/** What serves, what it may fall back to, and who waits while one makes way for the next. */
export class Serving {
  /** A swap is an assignment to it. */
  active: Staged | undefined;
  /** The committed version, kept in memory while its successor is on probation. */
  fallback: Staged | undefined;
  readonly #life: Life;
  readonly #retiring = new Set<Promise<void>>();
  #gate: PromiseWithResolvers<void> | undefined;
  #queued = 0;

  constructor(life: Life) {
    this.#life = life;
  }

  /** What serves now. Throws ModelError where nothing does. */
  now(): Staged {
    const { closed, name } = this.#life;
    if (closed.aborted) throw new ModelError(`'${name}' is closed`);
    if (this.active === undefined) throw new ModelError(`'${name}' has no version yet`);
    return this.active;
  }

  /** Whether calls have to wait, with `turn`, while one version makes way for the next. */
  get isGated(): boolean {
    return this.#gate !== undefined;
  }

  /** Waits until a version serves again. */
  async turn(): Promise<void> {
    const { name, options } = this.#life;
    const { queueMs = QUEUE_MS } = options;
    if (this.#queued >= QUEUE_MAX)
      throw new ModelError(`'${name}' is being swapped and ${QUEUE_MAX} calls wait already`);
    this.#queued += 1;
    const over = new AbortController();
    try {
      const late = sleep(queueMs, over.signal).then(() => {
        if (!over.signal.aborted) throw new ModelError(`'${name}' is being swapped for more than ${queueMs} ms`);
      });
      while (this.#gate !== undefined) await Promise.race([this.#gate.promise, late]);
    } finally {
      over.abort();
      this.#queued -= 1;
    }
  }

  /** Does what nobody may call meanwhile. */
  async gated(work: () => Promise<void>): Promise<void> {
    const gate = Promise.withResolvers<void>();
    this.#gate = gate;
    try {
      await work();
    } finally {
      this.#gate = undefined;
      gate.resolve();
    }
  }

  /** Holds what serves now until `release`, for `maxMs` at most. */
  hold(maxMs: number): {
    version: number;
    run(inputs: Inputs, onFailure: () => void): Promise<Record<string, Tensor>>;
    release(): void;
  } {
    const { closed, name } = this.#life;
    const { session, contract, release } = this.now();
    const { version } = release;
    const over = new AbortController();
    void session.use(() => sleep(maxMs, AbortSignal.any([over.signal, closed]))).then(() => over.abort());
    return {
      version,
      run: async (inputs, onFailure) => {
        if (over.signal.aborted) throw new ModelError(`version ${version} of '${name}' is held no more: hold again`);
        const feeds = feedsFor(contract.inputs, inputs);
        try {
          return withoutTypes(await session.use((held) => held.run(feeds)));
        } catch (error) {
          onFailure();
          throw error;
        }
      },
      release: () => over.abort(),
    };
  }

  /** Lets go of a version after the last prediction that runs on it. */
  retire(staged: Staged): void {
    const { emitter } = this.#life;
    const gone = staged.session.retire().catch((error: unknown) => emitter.emit('error', asError(error)));
    this.#retiring.add(gone);
    void gone.then(() => this.#retiring.delete(gone));
  }

  /** Lets running predictions finish. */
  async close(): Promise<void> {
    for (const staged of [this.active, this.fallback]) if (staged !== undefined) this.retire(staged);
    [this.active, this.fallback] = [undefined, undefined];
    await Promise.allSettled(this.#retiring);
  }
}

/** Runs one version, held for as long. */
export const run = async ({ session }: Staged, feeds: Record<string, TypedTensor>): Promise<Record<string, Tensor>> =>
  withoutTypes(await session.use((each) => each.run(feeds)));

const withoutTypes = (results: Record<string, TypedTensor>): Record<string, Tensor> =>
  Object.fromEntries(Object.entries(results).map(([name, { data, dims }]) => [name, { data, dims }]));

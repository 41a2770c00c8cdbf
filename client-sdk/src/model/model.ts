/**
 * The handle that an app holds. Releases are offered by the watch; one at a time is fetched, loaded beside the one
 * that serves, warmed up and swapped in. The newest offer wins: whatever lies between is superseded.
 */
import type { SignedManifest } from '@commonweight/proto';
import type { ReleaseCache } from '../cache/release-cache.ts';
import { Backoff, sleep } from '../connection/backoff.ts';
import type { ModelLink } from '../connection/model-link.ts';
import { asError, ModelError, TransportError } from '../errors.ts';
import type { Engine } from '../runtime/ort-engine.ts';
import type { Tensor } from '../runtime/tensor.ts';
import type { KeyPin } from '../trust/key-pin.ts';
import type { Ratchet } from '../trust/ratchet.ts';
import { openRelease, type Release } from '../trust/release.ts';
import { contractBreak, contractIn, type Contract } from './contract.ts';
import { ModelEmitter, type ModelEvents, type ModelListener, type SwapReason } from './events.ts';
import { feedsFor, type Inputs } from './inputs.ts';
import { fetchRelease, stage, type Staged } from './stage.ts';

/** What a prediction gave, and which version gave it. */
export interface Prediction {
  outputs: Record<string, Tensor>;
  version: number;
}

export interface ModelParts {
  name: string;
  link: ModelLink;
  engine: Engine;
  pin: KeyPin;
  ratchet: Ratchet;
  cache: ReleaseCache;
  staleAfterMs?: number;
  newBackoff?: () => Backoff;
}

export class Model {
  readonly name: string;
  readonly #parts: ModelParts;
  readonly #emitter = new ModelEmitter();
  readonly #closed = new AbortController();
  readonly #first: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  /** Versions that could not be used; they are not tried again. */
  readonly #quarantined = new Set<number>();
  readonly #retiring = new Set<Promise<void>>();
  #active: Staged | undefined;
  #next: Release | undefined;
  #pumping: Promise<void> | undefined;
  #unwatch: (() => void) | undefined;
  #lastDown: TransportError | undefined;
  #staleTimer: NodeJS.Timeout | undefined;
  #stale: ModelEvents['stale'] | undefined;

  constructor(parts: ModelParts) {
    this.name = parts.name;
    this.#parts = parts;
    this.#first.promise.catch(() => {});
  }

  /** The version that serves; undefined before the first. */
  get version(): number | undefined {
    return this.#active?.release.version;
  }

  /** Inputs and outputs of the version that serves. */
  get contract(): Contract | undefined {
    return this.#active?.contract;
  }

  /** Serves from the cache where it can, watches for releases, and resolves once a version serves. */
  async start(timeoutMs: number): Promise<void> {
    await this.#startFromCache();
    if (this.#active === undefined) await this.#require();
    this.#unwatch = this.#parts.link.watchModel(
      this.name,
      (signed) => {
        this.#hearAlive();
        this.#offer(signed);
      },
      (error) => this.#hearDown(error),
    );
    if (this.#active !== undefined) return;
    const late = new AbortController();
    const timeout = sleep(timeoutMs, late.signal).then(() => {
      if (late.signal.aborted) return;
      throw new TransportError(
        'deadline',
        `'${this.name}' could not be had within ${timeoutMs / 1000} s: ${this.#lastDown?.message ?? 'no answer; is the coordinator there?'}`,
        { cause: this.#lastDown },
      );
    });
    try {
      await Promise.race([this.#first.promise, timeout]);
    } finally {
      late.abort();
    }
  }

  /** Runs the version that serves now. A swap meanwhile does not touch this call. */
  async predict(inputs: Inputs): Promise<Prediction> {
    const active = this.#active;
    if (this.#closed.signal.aborted) throw new ModelError(`'${this.name}' is closed`);
    if (active === undefined) throw new ModelError(`'${this.name}' has no version yet`);
    const feeds = feedsFor(active.contract.inputs, inputs);
    const results = await active.session.use((session) => session.run(feeds));
    const outputs = Object.entries(results).map(([name, { data, dims }]) => [name, { data, dims }] as const);
    return { outputs: Object.fromEntries(outputs), version: active.release.version };
  }

  /** Listens until the returned function is called. A late listener hears the present state at once. */
  on<Name extends keyof ModelEvents>(name: Name, listener: ModelListener<Name>): () => void {
    const off = this.#emitter.on(name, listener);
    if (name === 'version' && this.version !== undefined) {
      const event: ModelEvents['version'] = { from: undefined, to: this.version, reason: 'current' };
      this.#emitter.tell('version', listener as ModelListener<'version'>, event);
    }
    if (name === 'stale' && this.#stale !== undefined) {
      this.#emitter.tell('stale', listener as ModelListener<'stale'>, this.#stale);
    }
    return off;
  }

  /** Stops watching and lets running predictions finish. */
  async close(): Promise<void> {
    this.#closed.abort();
    this.#unwatch?.();
    clearTimeout(this.#staleTimer);
    this.#first.reject(new ModelError(`'${this.name}' was closed`));
    await this.#pumping;
    if (this.#active !== undefined) this.#retire(this.#active);
    this.#active = undefined;
    await Promise.allSettled(this.#retiring);
  }

  async #startFromCache(): Promise<void> {
    for (const signed of await this.#parts.cache.load()) {
      try {
        const release = openRelease(this.name, signed, this.#parts.pin);
        const staged = await stage(
          release,
          await fetchRelease(release, this.#parts.cache.blobs, undefined),
          this.#parts.engine,
        );
        return await this.#activate(staged, 'cached');
      } catch (error) {
        // Damaged or signed by another key: the next older one, or the coordinator.
        this.#emitter.emit('error', asError(error));
      }
    }
  }

  /** The first answer decides whether the model exists at all; while nobody answers, the watch goes on trying. */
  async #require(): Promise<void> {
    try {
      const signed = await this.#parts.link.getModel(this.name, 0);
      this.#offer(signed, { orThrow: true });
    } catch (error) {
      if (error instanceof TransportError && error.code === 'not-found') {
        throw new TransportError('not-found', `the coordinator has no model '${this.name}'; import it first`, {
          cause: error,
        });
      }
      if (!(error instanceof TransportError && error.passing)) throw error;
      this.#hearDown(error);
    }
  }

  /** Takes a release that somebody says is there. Only verified and newer ones count. */
  #offer(signed: SignedManifest, { orThrow = false } = {}): void {
    try {
      const release = openRelease(this.name, signed, this.#parts.pin);
      this.#parts.ratchet.raise(this.name, release.version);
      const known = Math.max(this.version ?? 0, this.#next?.version ?? 0);
      if (release.version <= known || this.#quarantined.has(release.version)) return;
      this.#next = release;
      this.#pumping ??= this.#pump();
    } catch (error) {
      if (orThrow) throw error;
      this.#emitter.emit('error', asError(error));
    }
  }

  /** Swaps in the newest release until there is none. */
  async #pump(): Promise<void> {
    const backoff = this.#parts.newBackoff?.() ?? new Backoff();
    try {
      while (this.#next !== undefined && !this.#closed.signal.aborted) {
        const waitMs = await this.#trySwap(this.#next, backoff);
        if (waitMs > 0) await sleep(waitMs, this.#closed.signal);
      }
    } finally {
      // In the same turn as the last look at what is next: an offer from now on starts another pump.
      this.#pumping = undefined;
    }
  }

  /** Swaps a release in, sets it aside for good, or says how long to wait before the next try. */
  async #trySwap(release: Release, backoff: Backoff): Promise<number> {
    let failure: Error;
    try {
      await this.#swap(release);
      if (this.#next === release) this.#next = undefined;
      return 0;
    } catch (error) {
      failure = asError(error);
    }
    if (this.#closed.signal.aborted) return 0;
    this.#emitter.emit('error', failure);
    const hopeless = failure instanceof TransportError ? !failure.passing : failure instanceof ModelError;
    if (!hopeless) return backoff.nextMs();
    this.#quarantined.add(release.version);
    if (this.#next === release) this.#next = undefined;
    if (this.#active === undefined && this.#next === undefined) this.#first.reject(failure);
    return 0;
  }

  async #swap(release: Release): Promise<void> {
    const { cache, link, engine, pin, ratchet } = this.#parts;
    const before = this.#active;
    const broken = before === undefined ? undefined : contractBreak(before.contract, contractIn(release.manifest));
    if (broken !== undefined) {
      throw new ModelError(
        `version ${release.version} of '${this.name}' would break this app: ${broken}; publish it under another name`,
      );
    }
    const bytes = await fetchRelease(release, cache.blobs, link);
    const staged = await stage(release, bytes, engine);
    await Promise.all([pin.saved(), ratchet.saved()]);
    if (this.#closed.signal.aborted) return void (await staged.session.retire());
    await this.#activate(staged, before === undefined ? 'first' : 'newer');
  }

  /** The swap itself is one assignment. */
  async #activate(staged: Staged, reason: SwapReason): Promise<void> {
    const before = this.#active;
    this.#active = staged;
    if (before !== undefined) this.#retire(before);
    const from = before?.release.version;
    const to = staged.release.version;
    for (let version = (from ?? to) + 1; version < to; version += 1) this.#emitter.emit('superseded', { version });
    this.#emitter.emit('version', { from, to, reason });
    this.#first.resolve();
    try {
      await this.#parts.cache.keep(staged.release);
    } catch (cause) {
      this.#emitter.emit('error', new ModelError(`version ${to} could not be kept on disk`, { cause }));
    }
  }

  #retire(staged: Staged): void {
    const gone = staged.session.retire().catch((error: unknown) => this.#emitter.emit('error', asError(error)));
    this.#retiring.add(gone);
    void gone.then(() => this.#retiring.delete(gone));
  }

  #hearAlive(): void {
    clearTimeout(this.#staleTimer);
    this.#staleTimer = undefined;
    this.#stale = undefined;
  }

  #hearDown(error: TransportError): void {
    this.#lastDown = error;
    if (!error.passing) this.#emitter.emit('error', error);
    if (this.#staleTimer !== undefined || this.#closed.signal.aborted) return;
    const sinceMs = Date.now();
    this.#staleTimer = setTimeout(() => {
      this.#stale = { version: this.version, sinceMs };
      this.#emitter.emit('stale', this.#stale);
    }, this.#parts.staleAfterMs ?? 30_000);
  }
}

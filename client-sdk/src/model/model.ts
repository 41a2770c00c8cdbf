/**
 * The handle that an app holds. Releases are offered by the watch; one at a time is fetched, loaded beside the one that
 * serves, warmed up and swapped in. The newest offer wins: whatever lies between is superseded.
 *
 *   offered -> fetching -> staged -> serving on probation -> committed -> retired
 *                  |          |               |
 *                  v          v               v
 *            set aside   quarantined      reverted, quarantined; the one before serves again
 */
import { fromBinary } from '@bufbuild/protobuf';
import { equalBytes, SignedManifestSchema, type SignedManifest } from '@commonweight/proto';
import type { ReleaseCache } from '../cache/release-cache.ts';
import { Backoff, sleep } from '../connection/backoff.ts';
import type { ModelLink } from '../connection/model-link.ts';
import { asError, ContractError, ModelError, TransportError, WorkerLostError } from '../errors.ts';
import { hex } from '../hex.ts';
import type { TrustCrypto } from '../platform/platform.ts';
import type { ChosenVariant, VariantSubject } from '../runtime/choose-variant.ts';
import type { Engine } from '../runtime/engine.ts';
import { RecentInputs } from '../runtime/example-inputs.ts';
import { isFinite, type Tensor, type TypedTensor } from '../runtime/tensor.ts';
import { PLAIN_VARIANT, type PublishedForms, type ServedVariant } from '../runtime/variant.ts';
import type { KeyPin } from '../trust/key-pin.ts';
import type { Ratchet } from '../trust/ratchet.ts';
import { openRelease, sizeOf, type Release } from '../trust/release.ts';
import type { Bundle } from './bundle.ts';
import { contractBreak, contractIn, type Contract } from './contract.ts';
import { ModelEmitter, type ModelEvents, type ModelListener, type SwapReason } from './events.ts';
import type { Golden } from './golden.ts';
import { feedsFor, type Inputs } from './inputs.ts';
import { Latencies, PROBATION, tooSlow, type ProbationPolicy } from './probation.ts';
import { publishedForms } from './published-forms.ts';
import type { Quarantine } from './quarantine.ts';
import { fetchRelease, nonFinite, stage, type ReleaseBytes, type Staged, type TakeVariant } from './stage.ts';

/** What goes into a model and what comes out: any names, or those of a declaration by `commonweight model types`. */
export interface ModelTypes {
  inputs: object;
  outputs: object;
}

/** Any names. */
export interface AnyModel extends ModelTypes {
  inputs: Inputs;
  outputs: Record<string, Tensor>;
}

/** What a prediction gave, and which version gave it. */
export interface Prediction<T extends ModelTypes = AnyModel> {
  outputs: T['outputs'];
  version: number;
}

/** One version, held over several predictions that belong together. */
export interface Held<T extends ModelTypes = AnyModel> {
  readonly version: number;
  /** Throws ModelError once the hold has ended. */
  predict(inputs: T['inputs']): Promise<Prediction<T>>;
  release(): void;
}

/** `starting` and `failed` have nothing to serve; `stale` serves without knowing whether there is something newer. */
export type ModelStatus = 'starting' | 'ready' | 'stale' | 'failed' | 'closed';

export interface ModelOptions {
  /** How long `model()` waits for a first version. */
  readyTimeoutMs?: number;
  /** Silence after which a model says that it is stale. */
  staleAfterMs?: number;
  /** What a model's releases may take on disk; two have to fit. */
  diskBytesMax?: number;
  /** `availability` loads the next version beside the one that serves; `resource` lets go of that one first, and calls wait. */
  swap?: 'availability' | 'resource';
  /** Where two versions would take more memory than this, they are swapped as with `resource`. */
  memoryBytesMax?: number;
  /** How long a call waits while a version is swapped as with `resource`. */
  queueMs?: number;
  /** When a version that serves is kept, and when it is taken back. */
  probation?: Partial<ProbationPolicy>;
  /** What a version has to answer well before it serves. */
  golden?: Golden;
  /** The release that comes with the app. */
  bootstrap?: () => Bundle | Promise<Bundle>;
  newBackoff?: () => Backoff;
}

/** What decides on the form of a version. */
export interface Variants {
  choose(subject: VariantSubject): Promise<ChosenVariant>;
  /** Whether it wants to know what apps ask. */
  needsExamples: boolean;
}

export interface ModelParts {
  name: string;
  link: ModelLink;
  engine: Engine;
  pin: KeyPin;
  crypto: TrustCrypto;
  ratchet: Ratchet;
  cache: ReleaseCache;
  quarantine: Quarantine;
  /** Which form of each version serves; without it, the one that was published. */
  variants?: Variants;
}

/** Releases that were heard of and not looked at yet. */
const INBOX_MAX = 16;
/** Calls that wait for a swap. */
const QUEUE_MAX = 1024;
/** How long the same refused release is not spoken of again. */
const REFUSED_MS = 60_000;
/** Memory of a loaded model, in bytes of its weights (measured with ONNX Runtime, weights prepacked). */
const MEMORY_FACTOR = 1.95;

export class Model<T extends ModelTypes = AnyModel> {
  readonly name: string;
  readonly #parts: ModelParts;
  readonly #options: ModelOptions;
  readonly #policy: ProbationPolicy;
  readonly #emitter = new ModelEmitter();
  readonly #closed = new AbortController();
  readonly #first: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  /** Versions that could not be used and are not tried again by this process. */
  readonly #aside = new Set<number>();
  readonly #retiring = new Set<Promise<void>>();
  readonly #recent: RecentInputs | undefined;
  readonly #inbox: SignedManifest[] = [];
  #taking: Promise<void> | undefined;
  #refused: { signed: SignedManifest; untilMs: number } | undefined;
  #active: Staged | undefined;
  /** The committed version, kept in memory while its successor is on probation. */
  #fallback: Staged | undefined;
  #committed: number | undefined;
  #probation: { timer: ReturnType<typeof setTimeout> } | undefined;
  #latencies: { now: Latencies; before: Latencies } = { now: new Latencies(), before: new Latencies() };
  /** The highest version that ever served here. */
  #passed = 0;
  #next: Release | undefined;
  #pumping: Promise<void> | undefined;
  #reverting: Promise<void> | undefined;
  #gate: PromiseWithResolvers<void> | undefined;
  #queued = 0;
  #unwatch: (() => void) | undefined;
  #lastDown: TransportError | undefined;
  #staleTimer: ReturnType<typeof setTimeout> | undefined;
  #stale: ModelEvents['stale'] | undefined;

  constructor(parts: ModelParts, options: ModelOptions = {}) {
    this.name = parts.name;
    this.#parts = parts;
    this.#options = options;
    this.#policy = { ...PROBATION, ...options.probation };
    this.#recent = parts.variants?.needsExamples === true ? new RecentInputs() : undefined;
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

  /** The form of the version that serves, and why it was taken. */
  get variant(): ServedVariant {
    return this.#active?.variant ?? PLAIN_VARIANT;
  }

  get status(): ModelStatus {
    if (this.#closed.signal.aborted) return 'closed';
    if (this.#active === undefined) return this.#passed === 0 ? 'starting' : 'failed';
    return this.#stale === undefined ? 'ready' : 'stale';
  }

  /** Serves from the cache or the bundle where it can, watches for releases, and resolves once a version serves. */
  async start(): Promise<void> {
    await this.#startFromCache();
    if (this.#active === undefined) await this.#startFromBundle();
    if (this.#active === undefined) await this.#require();
    this.#unwatch = this.#parts.link.watchModel(
      this.name,
      (signed) => {
        this.#hearAlive();
        this.#hear(signed);
      },
      (error) => this.#hearDown(error),
    );
    if (this.#active === undefined) await this.#untilFirst();
  }

  async #untilFirst(): Promise<void> {
    const { readyTimeoutMs = 30_000 } = this.#options;
    const late = new AbortController();
    const timeout = sleep(readyTimeoutMs, late.signal).then(() => {
      if (late.signal.aborted) return;
      throw new TransportError(
        'deadline',
        `'${this.name}' could not be had within ${readyTimeoutMs / 1000} s: ${this.#lastDown?.message ?? 'no answer; is the coordinator there?'}`,
        { cause: this.#lastDown },
      );
    });
    try {
      await Promise.race([this.#first.promise, timeout]);
    } finally {
      late.abort();
    }
  }

  /**
   * Runs the version that serves now. A swap meanwhile does not touch this call. Made-up inputs are no example of what
   * apps ask.
   */
  async predict(inputs: T['inputs'], { isMadeUp = false }: { isMadeUp?: boolean } = {}): Promise<Prediction<T>> {
    if (this.#gate !== undefined) await this.#queue();
    const active = this.#serving();
    const feeds = feedsFor(active.contract.inputs, inputs as Inputs);
    if (!isMadeUp) this.#recent?.add(active.contract.inputs, feeds);
    const areFinite = this.#probation === undefined || Object.values(feeds).every(({ data }) => isFinite(data));
    const startMs = performance.now();
    let outputs: Record<string, Tensor>;
    try {
      outputs = await run(active, feeds);
    } catch (error) {
      if (error instanceof WorkerLostError) {
        this.#reload(active);
        throw error;
      }
      // On probation it is the version that is to blame, not the call: the one before answers.
      if (this.#isOnProbation(active)) await this.#revert(active, `a prediction failed: ${asError(error).message}`);
      if (this.#active === active || this.#active === undefined) throw error;
      return this.predict(inputs, { isMadeUp });
    }
    if (this.#active === active) this.#latencies.now.add(performance.now() - startMs);
    if (this.#isOnProbation(active)) {
      const instead = await this.#judge(active, inputs as Inputs, outputs, areFinite);
      if (instead !== undefined) return instead;
    }
    return { outputs, version: active.release.version };
  }

  /** Takes a version on probation back where an answer says so; then gives the answer of the one before. */
  async #judge(
    active: Staged,
    inputs: Inputs,
    outputs: Record<string, Tensor>,
    areFinite: boolean,
  ): Promise<Prediction<T> | undefined> {
    const broken = areFinite ? nonFinite(outputs) : undefined;
    if (broken !== undefined) {
      const before = this.#fallback;
      // A model may well say -Infinity; it is to blame only where the one before would not have.
      const other = before === undefined ? undefined : await run(before, feedsFor(before.contract.inputs, inputs));
      if (other !== undefined && nonFinite(other) !== undefined) return undefined;
      await this.#revert(active, `output '${broken}' is not finite`);
      return other === undefined || before === undefined
        ? undefined
        : { outputs: other, version: before.release.version };
    }
    const slow = tooSlow(this.#latencies.before, this.#latencies.now, this.#policy);
    if (slow !== undefined) await this.#revert(active, slow);
    return undefined;
  }

  /** The app says that the version that serves is bad: the one before serves again, and this one never does. */
  async reportFailure(reason: string): Promise<void> {
    if (this.#gate !== undefined) await this.#queue();
    await this.#revert(this.#serving(), `the app said: ${reason}`);
  }

  /** Holds the version that serves now, for calls that belong together; for `maxMs` at most. */
  hold({ maxMs = 600_000 }: { maxMs?: number } = {}): Held<T> {
    const { session, contract, release } = this.#serving();
    const { version } = release;
    const over = new AbortController();
    void session.use(() => sleep(maxMs, AbortSignal.any([over.signal, this.#closed.signal]))).then(() => over.abort());
    return {
      version,
      predict: async (inputs) => {
        if (over.signal.aborted)
          throw new ModelError(`version ${version} of '${this.name}' is held no more: hold again`);
        const feeds = feedsFor(contract.inputs, inputs as Inputs);
        return { outputs: withoutTypes(await session.use((held) => held.run(feeds))), version };
      },
      release: () => over.abort(),
    };
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
    clearTimeout(this.#probation?.timer);
    this.#first.reject(new ModelError(`'${this.name}' was closed`));
    await this.#taking;
    await this.#pumping;
    await this.#reverting;
    for (const staged of [this.#active, this.#fallback]) if (staged !== undefined) this.#retire(staged);
    [this.#active, this.#fallback] = [undefined, undefined];
    await Promise.allSettled(this.#retiring);
  }

  #serving(): Staged {
    if (this.#closed.signal.aborted) throw new ModelError(`'${this.name}' is closed`);
    if (this.#active === undefined) throw new ModelError(`'${this.name}' has no version yet`);
    return this.#active;
  }

  /** Waits while one version makes way for the next. */
  async #queue(): Promise<void> {
    const { queueMs = 10_000 } = this.#options;
    if (this.#queued >= QUEUE_MAX)
      throw new ModelError(`'${this.name}' is being swapped and ${QUEUE_MAX} calls wait already`);
    this.#queued += 1;
    const over = new AbortController();
    try {
      const late = sleep(queueMs, over.signal).then(() => {
        if (!over.signal.aborted) throw new ModelError(`'${this.name}' is being swapped for more than ${queueMs} ms`);
      });
      while (this.#gate !== undefined) await Promise.race([this.#gate.promise, late]);
    } finally {
      over.abort();
      this.#queued -= 1;
    }
  }

  async #startFromCache(): Promise<void> {
    const { cache, crypto, pin, quarantine } = this.#parts;
    this.#committed = await cache.committed();
    for (const signed of await cache.load()) {
      let release: Release | undefined;
      try {
        release = await openRelease(this.name, signed, pin, crypto);
        if (quarantine.has(release.content)) continue;
        const staged = await this.#stage(release, await fetchRelease(release, cache.blobs, undefined));
        return await this.#activate(staged, 'cached', undefined);
      } catch (error) {
        // Damaged or signed by another key: the next older one, or the coordinator.
        this.#emitter.emit('error', asError(error));
        const isToBlame = error instanceof ModelError && !(error instanceof WorkerLostError);
        if (release !== undefined && isToBlame) await this.#quarantine(release, error.message);
      }
    }
  }

  async #startFromBundle(): Promise<void> {
    const { cache, crypto, pin, quarantine, ratchet } = this.#parts;
    if (this.#options.bootstrap === undefined) return;
    try {
      const bundle = await this.#options.bootstrap();
      const release = await openRelease(this.name, fromBinary(SignedManifestSchema, bundle.release), pin, crypto);
      if (quarantine.has(release.content)) return;
      ratchet.raise(this.name, release.version);
      for (const [{ role, digest }, bytes] of [
        [release.graph, bundle.graph],
        [release.weights, bundle.weights],
      ] as const) {
        if (!equalBytes(await crypto.sha256(bytes), digest))
          throw new ModelError(`the ${role} in the bundle of '${this.name}' is not that of its release`);
        await cache.blobs.put(digest, bytes);
      }
      await this.#activate(await this.#stage(release, bundle), 'bundled', undefined);
    } catch (error) {
      this.#emitter.emit('error', asError(error));
    }
  }

  /** The first answer decides whether the model exists at all; while nobody answers, the watch goes on trying. */
  async #require(): Promise<void> {
    try {
      await this.#take(await this.#parts.link.getModel(this.name, 0));
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

  /** Looks at releases in the order in which they were heard of: verifying takes a moment. */
  #hear(signed: SignedManifest): void {
    if (this.#inbox.length >= INBOX_MAX) this.#inbox.shift();
    this.#inbox.push(signed);
    this.#taking ??= this.#takeAll();
  }

  async #takeAll(): Promise<void> {
    // In a turn of its own: what was done before its first wait would be taken for under way for ever.
    await Promise.resolve();
    for (let signed = this.#inbox.shift(); signed !== undefined; signed = this.#inbox.shift()) {
      try {
        if (!this.#wasRefused(signed)) await this.#take(signed);
      } catch (error) {
        this.#refused = { signed, untilMs: performance.now() + REFUSED_MS };
        this.#emitter.emit('error', asError(error));
      }
    }
    this.#taking = undefined;
  }

  #wasRefused({ manifest, signature, publicKey }: SignedManifest): boolean {
    if (this.#refused === undefined || performance.now() >= this.#refused.untilMs) return false;
    const { signed } = this.#refused;
    return (
      equalBytes(signed.manifest, manifest) &&
      equalBytes(signed.signature, signature) &&
      equalBytes(signed.publicKey, publicKey)
    );
  }

  /** Takes a release that somebody says is there. Only verified and newer ones count. */
  async #take(signed: SignedManifest): Promise<void> {
    const { crypto, pin, quarantine, ratchet } = this.#parts;
    const release = await openRelease(this.name, signed, pin, crypto);
    ratchet.raise(this.name, release.version);
    const known = Math.max(this.version ?? 0, this.#next?.version ?? 0);
    if (release.version <= known || this.#aside.has(release.version) || quarantine.has(release.content)) return;
    this.#next = release;
    if (!this.#closed.signal.aborted) this.#pumping ??= this.#pump();
  }

  /** Swaps in the newest release until there is none. */
  async #pump(): Promise<void> {
    const backoff = this.#options.newBackoff?.() ?? new Backoff();
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
    const { version } = release;
    if (failure instanceof WorkerLostError) return backoff.nextMs();
    if (failure instanceof ContractError) {
      this.#emitter.emit('incompatible', { version, reason: failure.message });
    } else if (failure instanceof ModelError) {
      await this.#quarantine(release, failure.message);
    } else if (failure instanceof TransportError && failure.code === 'corrupted') {
      // Not kept over a restart: what came was not this release, so nothing is known of it.
      this.#emitter.emit('quarantined', { version, reason: `digest-mismatch: ${failure.message}` });
    } else if (!(failure instanceof TransportError) || failure.passing) return backoff.nextMs();
    this.#aside.add(version);
    if (this.#next === release) this.#next = undefined;
    if (this.#active === undefined && this.#next === undefined) this.#first.reject(failure);
    return 0;
  }

  async #swap(release: Release): Promise<void> {
    const { cache, link, pin, ratchet } = this.#parts;
    const before = this.#active;
    const broken = before === undefined ? undefined : contractBreak(before.contract, contractIn(release.manifest));
    if (broken !== undefined) {
      throw new ContractError(
        `version ${release.version} of '${this.name}' would break this app: ${broken}; publish it under another name`,
      );
    }
    const served =
      before === undefined || release.content === before.release.content ? false : await cache.holds(release);
    const isBack = served || release.manifest.restoredVersion > 0n;
    const reason = before === undefined ? 'first' : isBack ? 'rollback' : 'newer';
    await cache.makeRoom(release, before?.release);
    const { version } = release;
    const bytes = await fetchRelease(release, cache.blobs, link, (held, bytesTotal) =>
      this.#emitter.emit('progress', { version, bytes: held, bytesTotal }),
    );
    const published = await this.#published(release);
    if (before !== undefined && this.#swapsInPlace(release, before.release))
      return await this.#swapInPlace(release, bytes, reason, published);
    const staged = await this.#stage(release, bytes, published);
    await Promise.all([pin.saved(), ratchet.saved()]);
    if (this.#closed.signal.aborted) return void (await staged.session.retire());
    if (before?.release.version === version) return this.#putBack(before, staged);
    await this.#activate(staged, reason, this.#active);
  }

  /** Loads the version that serves once more, unless that is under way or a newer one comes. */
  #reload(lost: Staged): void {
    if (this.#active !== lost || this.#closed.signal.aborted) return;
    this.#next ??= lost.release;
    this.#pumping ??= this.#pump();
  }

  /** The same version in place of itself: whatever was decided on it stands. */
  #putBack(lost: Staged, staged: Staged): void {
    const isWanted = this.#active === lost;
    this.#retire(isWanted ? lost : staged);
    if (!isWanted) return;
    this.#active = staged;
    if (this.#endProbation()) this.#beginProbation(staged);
    const { version } = staged.release;
    this.#emitter.emit('version', { from: version, to: version, reason: 'reloaded' });
  }

  #takeVariant(published: PublishedForms | undefined): TakeVariant | undefined {
    const { variants } = this.#parts;
    if (variants === undefined) return undefined;
    return ({ model, graph }, onnx, contract) =>
      variants.choose({
        family: `${model} ${hex(graph.digest)}`,
        onnx,
        contract,
        recent: this.#recent?.examples ?? [],
        ...(published === undefined ? {} : { published }),
      });
  }

  /** Undefined where nobody would choose among them; forms that are not to be believed are told, and the version serves without. */
  async #published(release: Release): Promise<PublishedForms | undefined> {
    const { link, pin, crypto, variants } = this.#parts;
    if (variants?.needsExamples !== true) return undefined;
    try {
      return await publishedForms(release, { link, pin, crypto });
    } catch (error) {
      this.#emitter.emit('error', asError(error));
      return undefined;
    }
  }

  #swapsInPlace(next: Release, serving: Release): boolean {
    const { swap, memoryBytesMax = Infinity } = this.#options;
    return swap === 'resource' || MEMORY_FACTOR * (sizeOf(next) + sizeOf(serving)) > memoryBytesMax;
  }

  /** Lets go of what serves before the next is loaded, for want of memory; calls wait. What served is loaded again if that fails. */
  async #swapInPlace(
    release: Release,
    bytes: ReleaseBytes,
    reason: SwapReason,
    published: PublishedForms | undefined,
  ): Promise<void> {
    const { cache, link, pin, ratchet } = this.#parts;
    await Promise.all([this.#reverting, pin.saved(), ratchet.saved()]);
    const before = this.#serving();
    const gate = Promise.withResolvers<void>();
    this.#gate = gate;
    try {
      await before.session.retire();
      this.#active = undefined;
      let staged: Staged;
      try {
        staged = await this.#stage(release, bytes, published);
      } catch (error) {
        this.#active = await stage(
          before.release,
          await fetchRelease(before.release, cache.blobs, link),
          this.#parts.engine,
          { takeVariant: this.#takeVariant(undefined) },
        );
        throw error;
      }
      await this.#activate(staged, reason, before, false);
    } finally {
      this.#gate = undefined;
      gate.resolve();
    }
  }

  /** Loads and checks a release. Where that ended the process twice, it is not tried a third time. */
  async #stage(release: Release, bytes: ReleaseBytes, published?: PublishedForms): Promise<Staged> {
    const { engine, quarantine } = this.#parts;
    if (!(await quarantine.begin(release.content))) {
      const reason = `version ${release.version} of '${this.name}' ended the process while it was being activated, twice`;
      await quarantine.add(release.content, release.version, reason);
      await quarantine.ended();
      throw new ModelError(reason);
    }
    try {
      const takeVariant = this.#takeVariant(published);
      return await stage(release, bytes, engine, { golden: this.#options.golden, takeVariant });
    } finally {
      await quarantine.ended();
    }
  }

  /** The swap itself is one assignment. `before` stays in memory while its successor is on probation, if `isResident`. */
  async #activate(
    staged: Staged,
    reason: SwapReason,
    before: Staged | undefined,
    isResident: boolean = true,
  ): Promise<void> {
    const { cache } = this.#parts;
    const wasOnProbation = this.#endProbation();
    // Where versions come faster than a probation lasts, one that answered well is what its successor falls back to.
    const isProven = !wasOnProbation || this.#latencies.now.count > 0;
    this.#active = staged;
    this.#latencies = { now: new Latencies(), before: this.#latencies.now };
    const promoted = wasOnProbation && isProven ? before : undefined;
    if (promoted !== undefined) this.#committed = promoted.release.version;
    if (before !== undefined && isResident) {
      const gone = !isProven || this.#policy.probationMs <= 0 ? before : this.#fallback;
      if (gone !== before) this.#fallback = before;
      if (gone !== undefined) this.#retire(gone);
    }
    const to = staged.release.version;
    const from = before?.release.version;
    for (let version = this.#passed + 1; this.#passed > 0 && version < to; version += 1)
      this.#emitter.emit('superseded', { version });
    this.#passed = Math.max(this.#passed, to);
    const isTried =
      before !== undefined || (reason === 'cached' && this.#committed !== to && this.#committed !== undefined);
    if (isTried) this.#beginProbation(staged);
    this.#emitter.emit('version', { from, to, reason });
    this.#first.resolve();
    try {
      await cache.keep(staged.release, this.#committed);
      if (promoted !== undefined) await this.#commit(promoted);
      if (!isTried) await this.#commit(staged);
    } catch (cause) {
      this.#emitter.emit('error', new ModelError(`version ${to} could not be kept on disk`, { cause }));
    }
  }

  #isOnProbation(staged: Staged): boolean {
    return this.#probation !== undefined && this.#active === staged;
  }

  #beginProbation(staged: Staged): void {
    const over = (): void => {
      if (!this.#isOnProbation(staged)) return;
      this.#endProbation();
      const before = this.#fallback;
      this.#fallback = undefined;
      if (before !== undefined) this.#retire(before);
      this.#commit(staged).catch((error: unknown) => this.#emitter.emit('error', asError(error)));
    };
    this.#probation = { timer: setTimeout(over, this.#policy.probationMs) };
  }

  #endProbation(): boolean {
    clearTimeout(this.#probation?.timer);
    const was = this.#probation !== undefined;
    this.#probation = undefined;
    return was;
  }

  async #commit({ release: { version } }: Staged): Promise<void> {
    this.#committed = version;
    await this.#parts.cache.commit(version);
    this.#emitter.emit('committed', { version });
  }

  /** Has the version before serve again, and never this one. */
  async #revert(bad: Staged, reason: string): Promise<void> {
    while (this.#reverting !== undefined) await this.#reverting;
    if (this.#active !== bad) return;
    this.#reverting = this.#takeBack(bad, reason).finally(() => (this.#reverting = undefined));
    await this.#reverting;
  }

  async #takeBack(bad: Staged, reason: string): Promise<void> {
    const from = bad.release.version;
    this.#endProbation();
    let good = this.#fallback;
    this.#fallback = undefined;
    if (good !== undefined) this.#active = good;
    await this.#quarantine(bad.release, reason);
    good ??= await this.#loadBefore(bad.release);
    if (good === undefined) {
      const message = `version ${from} of '${this.name}' is bad (${reason}), and there is none before it on disk; it goes on serving`;
      return this.#emitter.emit('error', new ModelError(message));
    }
    this.#active = good;
    this.#latencies = { now: new Latencies(), before: new Latencies() };
    this.#retire(bad);
    const to = good.release.version;
    this.#committed = to;
    await this.#parts.cache.drop(from);
    await this.#parts.cache.commit(to);
    this.#emitter.emit('reverted', { from, to, reason });
    this.#emitter.emit('version', { from, to, reason: 'reverted' });
  }

  /** The newest release on disk that is not in quarantine, loaded. */
  async #loadBefore(bad: Release): Promise<Staged | undefined> {
    const { cache, crypto, pin, quarantine } = this.#parts;
    for (const signed of await cache.load()) {
      try {
        const release = await openRelease(this.name, signed, pin, crypto);
        if (release.version >= bad.version || quarantine.has(release.content)) continue;
        return await this.#stage(release, await fetchRelease(release, cache.blobs, this.#parts.link));
      } catch (error) {
        this.#emitter.emit('error', asError(error));
      }
    }
    return undefined;
  }

  async #quarantine({ content, version }: Release, reason: string): Promise<void> {
    try {
      await this.#parts.quarantine.add(content, version, reason);
    } catch (cause) {
      this.#emitter.emit(
        'error',
        new ModelError(`that version ${version} is bad could not be kept on disk`, { cause }),
      );
    }
    this.#emitter.emit('quarantined', { version, reason });
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
    }, this.#options.staleAfterMs ?? 30_000);
  }
}

const run = async ({ session }: Staged, feeds: Record<string, TypedTensor>): Promise<Record<string, Tensor>> =>
  withoutTypes(await session.use((each) => each.run(feeds)));

const withoutTypes = (results: Record<string, TypedTensor>): Record<string, Tensor> =>
  Object.fromEntries(Object.entries(results).map(([name, { data, dims }]) => [name, { data, dims }]));

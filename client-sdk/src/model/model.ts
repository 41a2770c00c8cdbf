/** The handle that an app holds on a model: what serves is swapped underneath (swaps.ts), tried and taken back (standing.ts). */
import { fromBinary } from '@bufbuild/protobuf';
import { joinModel, readModel, weightsFromBytes } from '@commonweight/core';
import { equalBytes, LATEST, SignedManifestSchema, type SignedChannel, type SignedManifest } from '@commonweight/proto';
import { sleep } from '../connection/backoff.ts';
import { asError, ModelError, TransportError, TrustError, WorkerLostError } from '../errors.ts';
import type { Explainer, ExplainSubject } from '../explain/explainer.ts';
import type { ExplainOptions, Explanation } from '../explain/explanation.ts';
import { decoded, hasImages } from '../images/encoded.ts';
import { UseCounts } from '../reports/use-counts.ts';
import { RecentInputs } from '../runtime/example-inputs.ts';
import { isFinite, type Feeds, type Tensor, type TypedTensor } from '../runtime/tensor.ts';
import { plainVariant, type ServedVariant } from '../runtime/variant.ts';
import { openRelease, type Release } from '../trust/release.ts';
import type { Contract } from './contract.ts';
import { ModelEmitter, type ModelEvents, type ModelListener } from './events.ts';
import type { Feedback, Truth } from './feedback.ts';
import { ChannelFollower } from './follow-channel.ts';
import { Freshness } from './freshness.ts';
import { feedsFor, type Inputs } from './inputs.ts';
import { joinedFeeds, splitOutputs } from './join-feeds.ts';
import type { Life, ModelOptions, ModelParts } from './life.ts';
import { Loader } from './loader.ts';
import { Offers } from './offers.ts';
import type { Shadow, ShadowOptions } from './shadow.ts';
import { run, Serving } from './serving.ts';
import { fetchRelease, nonFinite, type Staged } from './stage.ts';
import { Standing } from './standing.ts';
import { Swaps } from './swaps.ts';

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
  /** What `feedback` is given, where that is switched on; else empty. */
  id: string;
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

export class Model<T extends ModelTypes = AnyModel> {
  readonly name: string;
  readonly #life: Life;
  readonly #closed = new AbortController();
  readonly #first: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  readonly #freshness: Freshness;
  readonly #offers: Offers<SignedManifest>;
  readonly #records: Offers<SignedChannel>;
  readonly #follower: ChannelFollower | undefined;
  readonly #serving: Serving;
  readonly #loader: Loader;
  readonly #standing: Standing;
  readonly #swaps: Swaps;
  readonly #shadow: Shadow | undefined;
  readonly #feedback: Feedback | undefined;
  #unwatch: (() => void)[] = [];
  #explainer: Promise<Explainer> | undefined;

  constructor(parts: ModelParts, options: ModelOptions = {}) {
    this.name = parts.name;
    const emitter = new ModelEmitter();
    const recent = parts.variants?.needsExamples === true ? new RecentInputs() : undefined;
    this.#life = { ...parts, options, emitter, recent, uses: new UseCounts(), closed: this.#closed.signal };
    this.#freshness = new Freshness(this.#life, () => this.version);
    this.#serving = new Serving(this.#life);
    this.#loader = new Loader(this.#life);
    this.#standing = new Standing(this.#life, this.#serving, this.#loader, () => this.#first.resolve());
    this.#swaps = new Swaps(
      this.#life,
      { serving: this.#serving, loader: this.#loader, standing: this.#standing },
      (error) => this.#first.reject(error),
    );
    const onError = (error: Error): void => emitter.emit('error', error);
    this.#offers = new Offers(
      ({ manifest }) => manifest,
      (signed) => this.#take(signed),
      onError,
    );
    const { channel } = parts;
    const parted = { freshness: this.#freshness, standing: this.#standing, swaps: this.#swaps };
    this.#follower = channel === undefined ? undefined : new ChannelFollower(this.#life, channel, parted);
    this.#feedback = parts.feedback?.(this.#life);
    if (parts.shadow !== undefined) {
      const wanted = shadowOptions(options);
      const shadow = parts.shadow.open(this.#life, wanted);
      if (wanted.channel === undefined && this.#follower !== undefined)
        this.#follower.onChallenger = (named) => shadow.want(named);
      this.#shadow = shadow;
    }
    this.#records = new Offers(
      ({ record }) => record,
      async (signed) => this.#follower?.take(signed),
      onError,
    );
    this.#first.promise.catch(() => {});
  }

  /** What says which version serves. */
  get channel(): string {
    return this.#life.channel?.name ?? LATEST;
  }

  /** The version that predicts beside the one that serves; undefined while none does. */
  get shadowVersion(): number | undefined {
    return this.#shadow?.version;
  }

  /** The version that serves; undefined before the first. */
  get version(): number | undefined {
    return this.#serving.active?.release.version;
  }

  /** How versions do here. */
  get uses(): UseCounts {
    return this.#life.uses;
  }

  /** Inputs and outputs of the version that serves. */
  get contract(): Contract | undefined {
    return this.#serving.active?.contract;
  }

  /** The form of the version that serves and the engine that runs it, and why they were taken. */
  get variant(): ServedVariant {
    return this.#serving.active?.variant ?? plainVariant(this.#life.engine.name);
  }

  get status(): ModelStatus {
    if (this.#closed.signal.aborted) return 'closed';
    if (this.#serving.active === undefined) return this.#standing.hasServed ? 'failed' : 'starting';
    return this.#freshness.stale === undefined ? 'ready' : 'stale';
  }

  /** Serves from the cache or the bundle where it can, watches for releases, and resolves once a version serves. */
  async start(): Promise<void> {
    await this.#startFromCache();
    if (this.#serving.active === undefined) await this.#startFromBundle();
    if (this.#serving.active === undefined) await this.#require();
    this.#unwatch = [this.#watch(), ...this.#watchShadow()];
    if (this.#serving.active === undefined) await this.#untilFirst();
  }

  #watch(): () => void {
    const onDown = (error: TransportError): void => this.#freshness.hearDown(error);
    if (this.#follower !== undefined) {
      const onRecord = (signed: SignedChannel): void => {
        this.#freshness.hearAlive();
        this.#records.hear(signed);
      };
      return this.#follower.watch(onRecord, onDown);
    }
    const onRelease = (signed: SignedManifest): void => {
      this.#freshness.hearAlive();
      this.#offers.hear(signed);
    };
    return this.#life.link.watchModel(this.name, onRelease, onDown);
  }

  #watchShadow(): (() => void)[] {
    const { channel } = shadowOptions(this.#life.options);
    if (this.#shadow === undefined || channel === undefined || this.#life.shadow === undefined) return [];
    return [this.#life.shadow.watch(this.#life, this.#shadow, channel)];
  }

  async #untilFirst(): Promise<void> {
    const { readyTimeoutMs = 30_000 } = this.#life.options;
    const late = new AbortController();
    const timeout = sleep(readyTimeoutMs, late.signal).then(() => {
      if (late.signal.aborted) return;
      const { lastDown } = this.#freshness;
      throw new TransportError(
        'deadline',
        `'${this.name}' could not be had within ${readyTimeoutMs / 1000} s: ${lastDown?.message ?? 'no answer; is the coordinator there?'}`,
        { cause: lastDown },
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
  async predict(inputs: T['inputs'], options: { isMadeUp?: boolean } = {}): Promise<Prediction<T>> {
    const [prediction] = await this.#predictAll([inputs as Inputs], options);
    return prediction!;
  }

  /** Predicts on several inputs in one run, all of them by one version. Rows of the model must not depend on each other. */
  predictBatch(all: readonly T['inputs'][]): Promise<Prediction<T>[]> {
    return all.length === 0 ? Promise.resolve([]) : this.#predictAll(all as readonly Inputs[], {});
  }

  async #predictAll(all: readonly Inputs[], { isMadeUp = false }: { isMadeUp?: boolean }): Promise<Prediction<T>[]> {
    const given = all.some(hasImages)
      ? await Promise.all(all.map((inputs) => decoded(inputs, this.#life.decodeImage)))
      : all;
    if (this.#serving.isGated) await this.#serving.turn();
    const active = this.#serving.now();
    const standing = this.#standing;
    const asked = askedOf(active, given);
    const { feeds } = asked;
    if (!isMadeUp) this.#life.recent?.add(active.contract.inputs, feeds);
    const areFinite = !standing.isOnProbation || Object.values(feeds).every(({ data }) => isFinite(data));
    const beside = isMadeUp ? undefined : this.#shadow?.copied(active, feeds);
    const remember = isMadeUp ? [] : asked.each.map((one) => this.#remembering(active, one));
    const startMs = performance.now();
    let outputs: Record<string, Tensor>;
    try {
      outputs = await run(active, feeds);
    } catch (error) {
      if (!isMadeUp) this.#life.uses.failed(active.release.version);
      if (error instanceof WorkerLostError) {
        this.#swaps.reload(active);
        throw error;
      }
      // On probation it is the version that is to blame, not the call: the one before answers.
      if (standing.isOnProbationWith(active))
        await standing.revert(active, `a prediction failed: ${asError(error).message}`, 'prediction');
      if (this.#serving.active === active || this.#serving.active === undefined) throw error;
      return this.#predictAll(given, { isMadeUp });
    }
    const ms = performance.now() - startMs;
    standing.timed(active, ms);
    if (!isMadeUp) this.#life.uses.predicted(active.release.version, active.variant.name, ms);
    const { version } = active.release;
    if (standing.isOnProbationWith(active)) {
      const instead = await this.#judge(active, given, outputs, areFinite);
      if (instead !== undefined)
        return asked.split(instead.outputs).map((part) => ({ outputs: part, version: instead.version, id: '' }));
    }
    beside?.(outputs);
    return asked.split(outputs).map((part, i) => ({ outputs: part, version, id: remember[i]?.(part) ?? '' }));
  }

  /** Takes a version on probation back where an answer says so; then gives the answer of the one before. */
  async #judge(
    active: Staged,
    given: readonly Inputs[],
    outputs: Record<string, Tensor>,
    areFinite: boolean,
  ): Promise<{ outputs: Record<string, Tensor>; version: number } | undefined> {
    const broken = areFinite ? nonFinite(outputs) : undefined;
    if (broken !== undefined) {
      const before = this.#serving.fallback;
      // A model may well say -Infinity; it is to blame only where the one before would not have.
      const other = before === undefined ? undefined : await run(before, askedOf(before, given).feeds);
      if (other !== undefined && nonFinite(other) !== undefined) return undefined;
      await this.#standing.revert(active, `output '${broken}' is not finite`, 'not_finite');
      return other === undefined || before === undefined
        ? undefined
        : { outputs: other, version: before.release.version };
    }
    const slow = this.#standing.slowness();
    if (slow !== undefined) await this.#standing.revert(active, slow, 'slow');
    return undefined;
  }

  #remembering({ contract, release }: Staged, feeds: Feeds): ((outputs: Record<string, Tensor>) => string) | undefined {
    const isBatched = contract.inputs.every(({ dims }) => dims.length > 0 && dims[0]! < 0);
    return this.#feedback?.copied(release.version, feeds, isBatched);
  }

  /**
   * The app says what a prediction would have been right to say: the class, or one for each row. Resolves once the example is on disk,
   * where feedback has a folder. Throws ModelError where the prediction is not remembered, and InputError where the label is none.
   */
  async feedback(id: string, truth: Truth): Promise<void> {
    if (this.#feedback === undefined)
      throw new ModelError(
        `feedback on '${this.name}' is not switched on, and no prediction is remembered: open it with client.model('${this.name}', { feedback: true })`,
      );
    await this.#feedback.give(id, truth);
  }

  /**
   * Says which inputs made the answers of the version that serves what they are. Gradients are those of the float32 version, whichever form of
   * it serves. At most 64 examples; throws InputError, or ExplainError where the model has no gradient.
   */
  async explain(inputs: T['inputs'], options: ExplainOptions = {}): Promise<Explanation> {
    const { decodeImage } = this.#life;
    const { baseline } = options;
    const given = await decoded(inputs as Inputs, decodeImage);
    const from = typeof baseline === 'object' ? { baseline: await decoded(baseline, decodeImage) } : {};
    if (this.#serving.isGated) await this.#serving.turn();
    const active = this.#serving.now();
    const outputs = await run(active, feedsFor(active.contract.inputs, given));
    // A page that explains nothing need not load what writes gradients.
    this.#explainer ??= import('../explain/explainer.ts').then(
      ({ Explainer: Kind }) => new Kind(() => this.#life.openEngine()),
    );
    const answered = { inputs: given, outputs };
    return await (await this.#explainer).explain(this.#subject(active), answered, { ...options, ...from });
  }

  #subject({ release, contract }: Staged): ExplainSubject {
    const { cache, link } = this.#life;
    return {
      name: this.name,
      version: release.version,
      content: release.content,
      contract,
      model: async () => {
        const { graph, weights } = await fetchRelease(release, cache.blobs, link);
        return readModel(joinModel(readModel(graph), weightsFromBytes(weights)));
      },
    };
  }

  /** The app says that the version that serves is bad: the one before serves again, and this one never does. */
  async reportFailure(reason: string): Promise<void> {
    if (this.#serving.isGated) await this.#serving.turn();
    await this.#standing.revert(this.#serving.now(), `the app said: ${reason}`, 'app');
  }

  /** Holds the version that serves now, for calls that belong together; for `maxMs` at most. */
  hold({ maxMs = 600_000 }: { maxMs?: number } = {}): Held<T> {
    const held = this.#serving.hold(maxMs);
    const { version } = held;
    const { uses } = this.#life;
    const variant = this.variant.name;
    return {
      version,
      predict: async (asked) => {
        const inputs = asked as Inputs;
        const given = hasImages(inputs) ? await decoded(inputs, this.#life.decodeImage) : inputs;
        const startMs = performance.now();
        const outputs = await held.run(given, () => uses.failed(version));
        uses.predicted(version, variant, performance.now() - startMs);
        return { outputs, version, id: '' };
      },
      release: () => held.release(),
    };
  }

  /** Listens until the returned function is called. A late listener hears the present state at once. */
  on<Name extends keyof ModelEvents>(name: Name, listener: ModelListener<Name>): () => void {
    const { emitter } = this.#life;
    const { stale } = this.#freshness;
    const off = emitter.on(name, listener);
    if (name === 'version' && this.version !== undefined) {
      const event: ModelEvents['version'] = { from: undefined, to: this.version, reason: 'current' };
      emitter.tell('version', listener as ModelListener<'version'>, event);
    }
    if (name === 'stale' && stale !== undefined) {
      emitter.tell('stale', listener as ModelListener<'stale'>, stale);
    }
    return off;
  }

  /** Stops watching and lets running predictions finish. */
  async close(): Promise<void> {
    this.#closed.abort();
    for (const stop of this.#unwatch) stop();
    this.#freshness.close();
    this.#standing.close();
    this.#first.reject(new ModelError(`'${this.name}' was closed`));
    await this.#offers.settled();
    await this.#records.settled();
    await this.#swaps.settled();
    await this.#standing.settled();
    await this.#shadow?.close();
    await (await this.#explainer?.catch(() => undefined))?.close();
    await this.#feedback?.close();
    await this.#serving.close();
  }

  async #startFromCache(): Promise<void> {
    const { cache, channel, crypto, emitter, pin, quarantine } = this.#life;
    await this.#standing.recall();
    for (const signed of await cache.load(channel === undefined ? undefined : await cache.current())) {
      let release: Release | undefined;
      try {
        release = await openRelease(this.name, signed, pin, crypto);
        if (quarantine.has(release.content)) continue;
        const staged = await this.#loader.load(release, await fetchRelease(release, cache.blobs, undefined));
        return await this.#standing.activate(staged, 'cached', undefined);
      } catch (error) {
        // Damaged or signed by another key: the next older one, or the coordinator.
        emitter.emit('error', asError(error));
        const isToBlame = error instanceof ModelError && !(error instanceof WorkerLostError);
        if (release === undefined || !isToBlame) continue;
        if (error.fault !== undefined) this.#life.uses.refused(release.version, error.fault);
        await this.#standing.quarantine(release, error.message);
      }
    }
  }

  async #startFromBundle(): Promise<void> {
    const { cache, crypto, emitter, options, pin, quarantine } = this.#life;
    if (options.bootstrap === undefined) return;
    try {
      const bundle = await options.bootstrap();
      const release = await openRelease(this.name, fromBinary(SignedManifestSchema, bundle.release), pin, crypto);
      if (quarantine.has(release.content)) return;
      await this.#requireNotOlder(release);
      for (const [{ role, digest }, bytes] of [
        [release.graph, bundle.graph],
        [release.weights, bundle.weights],
      ] as const) {
        if (!equalBytes(await crypto.sha256(bytes), digest))
          throw new ModelError(`the ${role} in the bundle of '${this.name}' is not that of its release`);
        await cache.blobs.put(digest, bytes);
      }
      await this.#standing.activate(await this.#loader.load(release, bundle), 'bundled', undefined);
    } catch (error) {
      emitter.emit('error', asError(error));
    }
  }

  /** Throws TrustError where a release that comes with the app is older than what served here. */
  async #requireNotOlder({ version }: Release): Promise<void> {
    const { cache, channel, ratchet } = this.#life;
    if (channel === undefined) return ratchet.raise(this.name, version);
    const current = await cache.current();
    if (current !== undefined && version < current)
      throw new TrustError(
        `version ${version} in the bundle of '${this.name}' is older than version ${current}, which served here`,
      );
  }

  /** The first answer decides whether the model exists at all; while nobody answers, the watch goes on trying. */
  async #require(): Promise<void> {
    try {
      if (this.#follower !== undefined) await this.#follower.require();
      else await this.#take(await this.#life.link.getModel(this.name, 0));
    } catch (error) {
      if (this.#follower === undefined && error instanceof TransportError && error.code === 'not-found') {
        throw new TransportError('not-found', `the coordinator has no model '${this.name}'; import it first`, {
          cause: error,
        });
      }
      if (!(error instanceof TransportError && error.passing)) throw error;
      this.#freshness.hearDown(error);
    }
  }

  /** Takes a release that somebody says is there. Only verified and newer ones count. */
  async #take(signed: SignedManifest): Promise<void> {
    const { crypto, pin, ratchet } = this.#life;
    const release = await openRelease(this.name, signed, pin, crypto);
    ratchet.raise(this.name, release.version);
    this.#swaps.offer(release);
  }
}

const shadowOptions = ({ shadow }: ModelOptions): ShadowOptions => (typeof shadow === 'object' ? shadow : {});

/** What a version is asked, of one input or of several together. */
interface Asked {
  feeds: Record<string, TypedTensor>;
  each: readonly Feeds[];
  split(outputs: Record<string, Tensor>): Record<string, Tensor>[];
}

function askedOf({ contract }: Staged, given: readonly Inputs[]): Asked {
  const each = given.map((inputs) => feedsFor(contract.inputs, inputs));
  const [only] = each;
  if (each.length === 1 && only !== undefined) return { feeds: only, each, split: (outputs) => [outputs] };
  const { feeds, rows } = joinedFeeds(contract, each);
  return { feeds, each, split: (outputs) => splitOutputs(outputs, rows) };
}

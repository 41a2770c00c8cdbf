/**
 * A version that predicts beside the one that serves, for nobody to see: how far their answers are apart is reported. It has a runtime
 * of its own, so no prediction of the app waits for it, runs at most one prediction at a time, and rests in between.
 *
 *   none -> (a challenger is named) loading -> beside -> (another, or none, is named) none
 *                                      |
 *                                      v
 *                            set aside for this process
 */
import { equalBytes } from '@commonweight/proto';
import { BlobCache } from '../cache/blob-cache.ts';
import { sleep, within } from '../connection/backoff.ts';
import { asError, ModelError } from '../errors.ts';
import { MemoryStorage } from '../platform/storage.ts';
import { Deviations } from '../runtime/deviation.ts';
import type { Engine } from '../runtime/engine.ts';
import { bytesIn, type Feeds, type Tensor, type TypedTensor } from '../runtime/tensor.ts';
import type { NamedVersion } from '../trust/channel.ts';
import { sizeOf, type Release } from '../trust/release.ts';
import { contractBreak } from './contract.ts';
import type { Life } from './life.ts';
import { MEMORY_FACTOR } from './memory.ts';
import type { Quarantine } from './quarantine.ts';
import { releaseNamed } from './named-release.ts';
import { fetchRelease, stage, type Staged } from './stage.ts';

/** What predicts beside the version that serves. */
export interface ShadowOptions {
  /** Whose version it is; without it, that of the rollout on the model's own channel where this client is not in it. */
  channel?: string;
  /** Share of predictions that are made again, 1 by default. */
  share?: number;
  /** Of one core; after a prediction it rests for as long as that needs. */
  cpuShareMax?: number;
  /** Memory of the version; a larger one does not predict beside. */
  memoryBytesMax?: number;
}

const CPU_SHARE_MAX = 0.25;
const MEMORY_BYTES_MAX = 256 * 1024 * 1024;
/** Inputs of one prediction, which are copied while the app waits. */
const INPUT_BYTES_MAX = 1024 * 1024;
/** One that takes longer is left alone, and its version with it. */
const RUN_MS_MAX = 30_000;
/** How long a prediction that hangs is waited for when its version is let go of. */
const CLOSE_MS = 2_000;

export class Shadow {
  readonly #life: Life;
  readonly #engine: Engine;
  readonly #quarantine: Quarantine;
  readonly #options: Required<Omit<ShadowOptions, 'channel'>>;
  /** Versions that could not be loaded here. */
  readonly #aside = new Set<number>();
  #named: NamedVersion | undefined;
  #staged: Staged | undefined;
  #loading: Promise<void> | undefined;
  #isBusy = false;
  #restsUntilMs = 0;

  constructor(life: Life, engine: Engine, quarantine: Quarantine, options: ShadowOptions) {
    const { share = 1, cpuShareMax = CPU_SHARE_MAX, memoryBytesMax = MEMORY_BYTES_MAX } = options;
    for (const [name, value] of Object.entries({ share, cpuShareMax }))
      if (!(value > 0 && value <= 1)) throw new TypeError(`shadow.${name} is a number above 0, and up to 1`);
    this.#life = life;
    this.#engine = engine;
    this.#quarantine = quarantine;
    this.#options = { share, cpuShareMax, memoryBytesMax };
  }

  /** The version that predicts beside; undefined while there is none. */
  get version(): number | undefined {
    return this.#staged?.release.version;
  }

  /** Has a version predict beside from now on, or none. */
  want(named: NamedVersion | undefined): void {
    this.#named = named;
    this.#loading ??= this.#load();
  }

  /** Takes copies of inputs, before they are handed over, where this prediction is to be made again: then the outputs may be given. */
  copied(champion: Staged, feeds: Feeds): ((outputs: Record<string, Tensor>) => void) | undefined {
    const staged = this.#staged;
    if (staged === undefined || this.#isBusy || performance.now() < this.#restsUntilMs) return undefined;
    if (staged.release.version === champion.release.version || Math.random() >= this.#options.share) return undefined;
    const bytes = Object.values(feeds).reduce((sum, { data }) => sum + bytesIn(data), 0);
    if (bytes > INPUT_BYTES_MAX || contractBreak(champion.contract, staged.contract) !== undefined) return undefined;
    const inputs = copyOf(feeds);
    return (outputs) => {
      if (this.#isBusy) return;
      this.#isBusy = true;
      const kept = copyOf(outputs);
      // In a turn of its own: the app has its answer first.
      setTimeout(() => void this.#run(staged, champion.release, inputs, kept), 0);
    };
  }

  async close(): Promise<void> {
    this.#named = undefined;
    await this.#loading;
    const staged = this.#staged;
    this.#staged = undefined;
    await within(CLOSE_MS, staged?.session.retire());
  }

  async #run(
    staged: Staged,
    champion: Release,
    feeds: Record<string, TypedTensor>,
    outputs: Record<string, Tensor>,
  ): Promise<void> {
    const { closed, uses } = this.#life;
    const { version } = staged.release;
    const startMs = performance.now();
    const over = new AbortController();
    try {
      const late = sleep(RUN_MS_MAX, AbortSignal.any([over.signal, closed])).then(() => {
        if (!over.signal.aborted) throw new Error(`no answer within ${RUN_MS_MAX / 1000} s`);
      });
      const answer = staged.session.use((session) => session.run(feeds));
      answer.catch(() => {});
      const other = await Promise.race([answer, late]);
      const ms = performance.now() - startMs;
      if (other === undefined) return;
      const deviations = new Deviations();
      deviations.add(outputs, other);
      const { rows, agreeing, difference } = deviations;
      const compared = Number.isFinite(difference) ? { rows, agreeing, difference } : undefined;
      uses.shadowed({ version, champion: champion.version, ms, compared });
    } catch (error) {
      uses.shadowed({ version, champion: champion.version, ms: 0, compared: undefined });
      if (closed.aborted) return;
      this.#giveUp(staged, error);
    } finally {
      over.abort();
      const tookMs = performance.now() - startMs;
      this.#restsUntilMs = performance.now() + tookMs * (1 / this.#options.cpuShareMax - 1);
      this.#isBusy = false;
    }
  }

  #giveUp(staged: Staged, error: unknown): void {
    const { version } = staged.release;
    this.#aside.add(version);
    if (this.#staged === staged) this.#staged = undefined;
    staged.session.retire().catch(() => {});
    this.#tell(version, error);
  }

  /** Loads what was named last. */
  async #load(): Promise<void> {
    await Promise.resolve();
    for (;;) {
      const named = this.#named;
      const now = this.#staged?.release;
      const isThere =
        now?.version === named?.version && equalBytes(now?.digest ?? EMPTY, named?.manifestDigest ?? EMPTY);
      if (isThere || (named !== undefined && this.#aside.has(named.version)) || this.#life.closed.aborted) {
        // In the same turn as the last look at what is named.
        this.#loading = undefined;
        return;
      }
      const before = this.#staged;
      this.#staged = undefined;
      await within(CLOSE_MS, before?.session.retire());
      if (named === undefined) {
        this.#life.cache.host(undefined);
        continue;
      }
      try {
        const staged = await this.#stage(named);
        if (this.#named === named && !this.#life.closed.aborted) this.#staged = staged;
        else await staged.session.retire();
      } catch (error) {
        if (this.#life.closed.aborted) continue;
        this.#aside.add(named.version);
        this.#tell(named.version, error);
      }
    }
  }

  async #stage(named: NamedVersion): Promise<Staged> {
    const { cache, crypto, emitter, link, options } = this.#life;
    const { memoryBytesMax } = this.#options;
    const release = await releaseNamed(this.#life, named);
    if (MEMORY_FACTOR * sizeOf(release) > memoryBytesMax)
      throw new ModelError(`it would take more than ${memoryBytesMax} bytes of memory`);
    if (this.#quarantine.has(release.content) || !(await this.#quarantine.begin(release.content)))
      throw new ModelError('it ended the process before');
    try {
      // What may not be kept on disk is held for as long as it takes.
      const isKept = options.diskBytesMax === undefined;
      if (isKept) cache.host(release.manifest);
      const blobs = isKept ? cache.blobs : new BlobCache(new MemoryStorage(), 'shadow', crypto.sha256);
      const bytes = await fetchRelease(release, blobs, link, undefined, (error) => emitter.emit('error', error));
      return await stage(release, bytes, this.#engine);
    } finally {
      await this.#quarantine.ended();
    }
  }

  #tell(version: number, error: unknown): void {
    const { emitter, name } = this.#life;
    const message = `version ${version} of '${name}' does not predict beside any more: ${asError(error).message}`;
    emitter.emit('error', new ModelError(message, { cause: error }));
  }
}

const EMPTY = new Uint8Array();

function copyOf<T extends Tensor>(tensors: Readonly<Record<string, T>>): Record<string, T> {
  const copies = Object.entries(tensors).map(([name, tensor]) => [name, { ...tensor, data: tensor.data.slice() }]);
  return Object.fromEntries(copies) as Record<string, T>;
}

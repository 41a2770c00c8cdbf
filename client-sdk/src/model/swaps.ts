/**
 * One release at a time is fetched, loaded beside the one that serves, warmed up and swapped in. The newest offer wins, or what a
 * channel said last: whatever lies between is superseded.
 *
 *   offered -> fetching -> staged -> serving (standing.ts)
 *                  |          |
 *                  v          v
 *            set aside   quarantined
 */
import { equalBytes } from '@commonweight/proto';
import { Backoff, sleep } from '../connection/backoff.ts';
import { asError, ContractError, ModelError, TransportError, WorkerLostError } from '../errors.ts';
import type { PublishedForms } from '../runtime/variant.ts';
import type { NamedVersion } from '../trust/channel.ts';
import { sizeOf, type Release } from '../trust/release.ts';
import { contractBreak, contractIn } from './contract.ts';
import type { SwapReason } from './events.ts';
import type { Life } from './life.ts';
import type { Loader } from './loader.ts';
import { MEMORY_FACTOR } from './memory.ts';
import { releaseNamed } from './named-release.ts';
import type { Serving } from './serving.ts';
import { fetchRelease, type ReleaseBytes, type Staged } from './stage.ts';
import type { Standing } from './standing.ts';

/** A release that is to serve. */
interface Wanted {
  version: number;
  /** Gives it, once it is verified. */
  open(): Promise<Release>;
  /** Of its manifest, by a channel: where that says something else meanwhile, it does not serve. */
  digest?: Uint8Array;
}

export class Swaps {
  readonly #life: Life;
  readonly #serving: Serving;
  readonly #loader: Loader;
  readonly #standing: Standing;
  readonly #onHopeless: (error: Error) => void;
  /** Versions that could not be used and are not tried again by this process. */
  readonly #aside = new Set<number>();
  #next: Wanted | undefined;
  #pumping: Promise<void> | undefined;
  /** Ends the wait before the next try. */
  #wake = new AbortController();

  /** `onHopeless` hears why nothing serves, and nothing is to come. */
  constructor(
    life: Life,
    { serving, loader, standing }: { serving: Serving; loader: Loader; standing: Standing },
    onHopeless: (error: Error) => void,
  ) {
    this.#life = life;
    this.#serving = serving;
    this.#loader = loader;
    this.#standing = standing;
    this.#onHopeless = onHopeless;
  }

  /** Takes a verified release, unless it is known to be of no use or not newer than what there is. */
  offer(release: Release): void {
    const known = Math.max(this.#serving.active?.release.version ?? 0, this.#next?.version ?? 0);
    const isUseless = this.#aside.has(release.version) || this.#life.quarantine.has(release.content);
    if (release.version <= known || isUseless) return;
    this.#want({ version: release.version, open: () => Promise.resolve(release) });
  }

  /** Has a version serve, newer or older than the one that does, and no other one that is under way. */
  direct(named: NamedVersion): void {
    const { version, manifestDigest } = named;
    const active = this.#serving.active?.release;
    const before = this.#next?.digest === undefined ? undefined : this.#next;
    if (this.#aside.has(version)) return;
    if (before?.version === version && equalBytes(before.digest!, manifestDigest)) return;
    if (before !== undefined && before.version !== version)
      this.#life.emitter.emit('superseded', { version: before.version });
    const isThere = active?.version === version && equalBytes(active.digest, manifestDigest);
    if (isThere) this.#next = undefined;
    else this.#want({ version, open: () => releaseNamed(this.#life, named), digest: manifestDigest });
  }

  /** Whether a version could not be used by this process. */
  isAside(version: number): boolean {
    return this.#aside.has(version);
  }

  /** A version is not to serve in this process any more. */
  setAside(version: number): void {
    this.#aside.add(version);
  }

  /** Loads the version that serves once more, unless that is under way or another one comes. */
  reload(lost: Staged): void {
    if (this.#serving.active !== lost || this.#life.closed.aborted) return;
    const { release } = lost;
    this.#next ??= { version: release.version, open: () => Promise.resolve(release) };
    this.#pumping ??= this.#pump();
  }

  #want(wanted: Wanted): void {
    this.#next = wanted;
    this.#wake.abort();
    if (!this.#life.closed.aborted) this.#pumping ??= this.#pump();
  }

  /** Resolves once nothing is being swapped in. */
  async settled(): Promise<void> {
    await this.#pumping;
  }

  /** Swaps in the newest release until there is none. */
  async #pump(): Promise<void> {
    const { closed, options } = this.#life;
    const backoff = options.newBackoff?.() ?? new Backoff();
    try {
      while (this.#next !== undefined && !closed.aborted) {
        this.#wake = new AbortController();
        const waitMs = await this.#trySwap(this.#next, backoff);
        if (waitMs > 0) await sleep(waitMs, AbortSignal.any([this.#wake.signal, closed]));
      }
    } finally {
      // In the same turn as the last look at what is next: an offer from now on starts another pump.
      this.#pumping = undefined;
    }
  }

  /** Swaps a release in, sets it aside for good, or says how long to wait before the next try. */
  async #trySwap(wanted: Wanted, backoff: Backoff): Promise<number> {
    const { closed, emitter, uses } = this.#life;
    const { version } = wanted;
    let failure: Error;
    let release: Release | undefined;
    try {
      release = await wanted.open();
      await this.#swap(wanted, release);
      if (this.#next === wanted) this.#next = undefined;
      return 0;
    } catch (error) {
      failure = asError(error);
    }
    if (closed.aborted) return 0;
    emitter.emit('error', failure);
    if (failure instanceof WorkerLostError) return backoff.nextMs();
    this.#aside.add(version);
    if (failure instanceof ContractError) {
      uses.refused(version, 'contract');
      emitter.emit('incompatible', { version, reason: failure.message });
    } else if (failure instanceof ModelError && release !== undefined) {
      if (failure.fault !== undefined) uses.refused(version, failure.fault);
      await this.#standing.quarantine(release, failure.message);
    } else if (failure instanceof TransportError && failure.code === 'corrupted') {
      uses.refused(version, 'digest');
      // Not kept over a restart: what came was not this release, so nothing is known of it.
      emitter.emit('quarantined', { version, reason: `digest-mismatch: ${failure.message}` });
    } else if (!(failure instanceof TransportError) || failure.passing) {
      this.#aside.delete(version);
      return backoff.nextMs(failure instanceof TransportError ? failure : {});
    }
    if (this.#next === wanted) this.#next = undefined;
    if (this.#serving.active === undefined && this.#next === undefined) this.#onHopeless(failure);
    return 0;
  }

  async #swap(wanted: Wanted, release: Release): Promise<void> {
    const { cache, channel, closed, emitter, link, name, pin, ratchet } = this.#life;
    const before = this.#serving.active;
    const { version } = release;
    if (wanted.digest !== undefined && this.#life.quarantine.has(release.content))
      throw new ModelError(`version ${version} of '${name}' failed here before`);
    const broken = before === undefined ? undefined : contractBreak(before.contract, contractIn(release.manifest));
    if (broken !== undefined) {
      throw new ContractError(
        `version ${release.version} of '${name}' would break this app: ${broken}; publish it under another name`,
      );
    }
    const served =
      before === undefined || release.content === before.release.content ? false : await cache.holds(release);
    const isOlder = before !== undefined && version < before.release.version;
    const isBack = served || isOlder || release.manifest.restoredVersion > 0n;
    const reason = before === undefined ? 'first' : isBack ? 'rollback' : 'newer';
    await cache.makeRoom(release, before?.release);
    const bytes = await fetchRelease(
      release,
      cache.blobs,
      link,
      (held, bytesTotal) => emitter.emit('progress', { version, bytes: held, bytesTotal }),
      (error) => emitter.emit('error', error),
    );
    const published = await this.#loader.published(release);
    if (this.#isOverruled(wanted)) return;
    if (before !== undefined && this.#swapsInPlace(release, before.release))
      return await this.#swapInPlace(release, bytes, reason, published);
    const staged = await this.#loader.load(release, bytes, published);
    await Promise.all([pin.saved(), ratchet.saved(), channel?.ratchet.saved()]);
    if (closed.aborted || this.#isOverruled(wanted)) return void (await staged.session.retire());
    if (before?.release.version === version) return this.#standing.putBack(before, staged);
    await this.#standing.activate(staged, reason, this.#serving.active);
  }

  #isOverruled(wanted: Wanted): boolean {
    return wanted.digest !== undefined && this.#next !== wanted;
  }

  #swapsInPlace(next: Release, serving: Release): boolean {
    const { swap, memoryBytesMax = Infinity } = this.#life.options;
    return swap === 'resource' || MEMORY_FACTOR * (sizeOf(next) + sizeOf(serving)) > memoryBytesMax;
  }

  /** Lets go of what serves before the next is loaded, for want of memory; calls wait. What served is loaded again if that fails. */
  async #swapInPlace(
    release: Release,
    bytes: ReleaseBytes,
    reason: SwapReason,
    published: PublishedForms | undefined,
  ): Promise<void> {
    const { channel, pin, ratchet } = this.#life;
    const serving = this.#serving;
    await Promise.all([this.#standing.settled(), pin.saved(), ratchet.saved(), channel?.ratchet.saved()]);
    const before = serving.now();
    await serving.gated(async () => {
      await before.session.retire();
      serving.active = undefined;
      let staged: Staged;
      try {
        staged = await this.#loader.load(release, bytes, published);
      } catch (error) {
        serving.active = await this.#loader.loadAgain(before.release);
        throw error;
      }
      await this.#standing.activate(staged, reason, before, false);
    });
  }
}

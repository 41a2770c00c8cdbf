/**
 * Where the version that serves stands:
 *
 *   activated -> on probation -> committed
 *                     |
 *                     v
 *               taken back, quarantined; the one before serves again
 */
import { asError, ModelError } from '../errors.ts';
import type { Fault } from '../reports/use-counts.ts';
import type { Release } from '../trust/release.ts';
import type { SwapReason } from './events.ts';
import type { Life } from './life.ts';
import type { Loader } from './loader.ts';
import { Latencies, PROBATION, tooSlow, type ProbationPolicy } from './probation.ts';
import type { Serving } from './serving.ts';
import type { Staged } from './stage.ts';

export class Standing {
  readonly #life: Life;
  readonly #serving: Serving;
  readonly #loader: Loader;
  readonly #policy: ProbationPolicy;
  readonly #onServing: () => void;
  #probation: { timer: ReturnType<typeof setTimeout> } | undefined;
  #latencies: { now: Latencies; before: Latencies } = { now: new Latencies(), before: new Latencies() };
  #committed: number | undefined;
  /** The highest version that ever served here. */
  #passed = 0;
  #reverting: Promise<void> | undefined;

  /** `onServing` hears of each version that serves. */
  constructor(life: Life, serving: Serving, loader: Loader, onServing: () => void) {
    this.#life = life;
    this.#serving = serving;
    this.#loader = loader;
    this.#policy = { ...PROBATION, ...life.options.probation };
    this.#onServing = onServing;
  }

  get hasServed(): boolean {
    return this.#passed > 0;
  }

  /** The version that serves is being taken back. */
  get isReverting(): boolean {
    return this.#reverting !== undefined;
  }

  get isOnProbation(): boolean {
    return this.#probation !== undefined;
  }

  isOnProbationWith(staged: Staged): boolean {
    return this.isOnProbation && this.#serving.active === staged;
  }

  /** Reads which version passed its probation last. */
  async recall(): Promise<void> {
    this.#committed = await this.#life.cache.committed();
  }

  /** The swap itself is one assignment. `before` stays in memory while its successor is on probation, if `isResident`. */
  async activate(
    staged: Staged,
    reason: SwapReason,
    before: Staged | undefined,
    isResident: boolean = true,
  ): Promise<void> {
    const { cache, channel, emitter } = this.#life;
    const serving = this.#serving;
    const wasOnProbation = this.#endProbation();
    // Where versions come faster than a probation lasts, one that answered well is what its successor falls back to.
    const isProven = !wasOnProbation || this.#latencies.now.count > 0;
    serving.active = staged;
    this.#latencies = { now: new Latencies(), before: this.#latencies.now };
    const promoted = wasOnProbation && isProven ? before : undefined;
    if (promoted !== undefined) this.#committed = promoted.release.version;
    if (before !== undefined && isResident) {
      const gone = !isProven || this.#policy.probationMs <= 0 ? before : serving.fallback;
      if (gone !== before) serving.fallback = before;
      if (gone !== undefined) serving.retire(gone);
    }
    const to = staged.release.version;
    const from = before?.release.version;
    // A channel passes by what was never for it.
    const firstPassed = channel === undefined && this.#passed > 0 ? this.#passed + 1 : to;
    for (let version = firstPassed; version < to; version += 1) emitter.emit('superseded', { version });
    this.#passed = Math.max(this.#passed, to);
    const isTried =
      before !== undefined || (reason === 'cached' && this.#committed !== to && this.#committed !== undefined);
    if (isTried) this.#beginProbation(staged);
    emitter.emit('version', { from, to, reason });
    this.#onServing();
    try {
      await cache.keep(staged.release, this.#committed);
      if (channel !== undefined) await cache.point(to);
      if (promoted !== undefined) await this.#commit(promoted);
      if (!isTried) await this.#commit(staged);
    } catch (cause) {
      emitter.emit('error', new ModelError(`version ${to} could not be kept on disk`, { cause }));
    }
  }

  /** The same version in place of itself: whatever was decided on it stands. */
  putBack(lost: Staged, staged: Staged): void {
    const serving = this.#serving;
    const isWanted = serving.active === lost;
    serving.retire(isWanted ? lost : staged);
    if (!isWanted) return;
    serving.active = staged;
    if (this.#endProbation()) this.#beginProbation(staged);
    const { version } = staged.release;
    this.#life.emitter.emit('version', { from: version, to: version, reason: 'reloaded' });
  }

  /** How long a prediction of what serves took. */
  timed(staged: Staged, ms: number): void {
    if (this.#serving.active === staged) this.#latencies.now.add(ms);
  }

  /** Why what serves is too slow, beside the one before; undefined while it is not. */
  slowness(): string | undefined {
    return tooSlow(this.#latencies.before, this.#latencies.now, this.#policy);
  }

  /** Has the version before serve again, and never this one. */
  async revert(bad: Staged, reason: string, fault: Fault): Promise<void> {
    while (this.#reverting !== undefined) await this.#reverting;
    if (this.#serving.active !== bad) return;
    this.#reverting = this.#takeBack(bad, reason, fault).finally(() => (this.#reverting = undefined));
    await this.#reverting;
  }

  /** Resolves once nothing is being taken back. */
  async settled(): Promise<void> {
    await this.#reverting;
  }

  /** A release is not tried again. */
  async quarantine({ content, version }: Release, reason: string): Promise<void> {
    const { emitter, quarantine } = this.#life;
    try {
      await quarantine.add(content, version, reason);
    } catch (cause) {
      emitter.emit('error', new ModelError(`that version ${version} is bad could not be kept on disk`, { cause }));
    }
    emitter.emit('quarantined', { version, reason });
  }

  close(): void {
    clearTimeout(this.#probation?.timer);
  }

  #beginProbation(staged: Staged): void {
    const serving = this.#serving;
    const over = (): void => {
      if (!this.isOnProbationWith(staged)) return;
      this.#endProbation();
      const before = serving.fallback;
      serving.fallback = undefined;
      if (before !== undefined) serving.retire(before);
      this.#commit(staged).catch((error: unknown) => this.#life.emitter.emit('error', asError(error)));
    };
    this.#probation = { timer: setTimeout(over, this.#policy.probationMs) };
  }

  #endProbation(): boolean {
    clearTimeout(this.#probation?.timer);
    const was = this.isOnProbation;
    this.#probation = undefined;
    return was;
  }

  async #commit({ release: { version } }: Staged): Promise<void> {
    this.#committed = version;
    this.#life.uses.committed(version);
    await this.#life.cache.commit(version);
    this.#life.emitter.emit('committed', { version });
  }

  async #takeBack(bad: Staged, reason: string, fault: Fault): Promise<void> {
    const { cache, channel, emitter, name, uses } = this.#life;
    const serving = this.#serving;
    const from = bad.release.version;
    uses.reverted(from, fault);
    this.#endProbation();
    let good = serving.fallback;
    serving.fallback = undefined;
    if (good !== undefined) serving.active = good;
    await this.quarantine(bad.release, reason);
    good ??= await this.#loader.loadBefore(bad.release);
    if (good === undefined) {
      const message = `version ${from} of '${name}' is bad (${reason}), and there is none before it on disk; it goes on serving`;
      return emitter.emit('error', new ModelError(message));
    }
    serving.active = good;
    this.#latencies = { now: new Latencies(), before: new Latencies() };
    serving.retire(bad);
    const to = good.release.version;
    this.#committed = to;
    await cache.drop(from);
    await cache.commit(to);
    if (channel !== undefined) await cache.point(to);
    emitter.emit('reverted', { from, to, reason });
    emitter.emit('version', { from, to, reason: 'reverted' });
  }
}

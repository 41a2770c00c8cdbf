import { create } from '@bufbuild/protobuf';
import { ClientReportSchema, REPORT_MODELS_MAX, type ClientReport } from '@commonweight/proto';
import { Backoff, sleep } from '../connection/backoff.ts';
import type { ModelLink } from '../connection/model-link.ts';
import { TransportError } from '../errors.ts';
import type { Sha256 } from '../platform/platform.ts';
import { shareOf } from '../trust/rollout.ts';
import type { UseCounts } from './use-counts.ts';

/** What is told of how models do in this app. */
export interface ReportOptions {
  /** Milliseconds between two reports, give or take a quarter; the coordinator may ask for more. */
  everyMs?: number;
  /** Share of installations that report: each is always one of them, or never. */
  share?: number;
}

/** A model whose use is reported. */
export interface Reported {
  name: string;
  channel: string;
  uses: UseCounts;
  version(): number | undefined;
  variant(): string;
  runtime: string;
}

export interface ReporterParts {
  link: ModelLink;
  clientId: string;
  sha256: Sha256;
  random?: () => number;
}

const EVERY_MS = 60_000;
const EVERY_MS_MAX = 3_600_000;
/** A first report is sent this soon, so that a fleet is seen. */
const FIRST_MS = 10_000;
/** That a version was taken back is told this soon, so that a rollout that goes badly ends soon. */
const SOON_MS = 5_000;
/** How long closing waits for the last report. */
const LAST_MS = 500;

/** Tells the coordinator how models do: one report for all, now and then. Nothing of it is ever waited for. */
export class Reporter {
  readonly #parts: ReporterParts;
  readonly #everyMs: number;
  readonly #random: () => number;
  readonly #isChosen: Promise<boolean>;
  readonly #models = new Set<Reported>();
  readonly #closed = new AbortController();
  readonly #backoff = new Backoff();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #dueMs = Infinity;
  /** What was not taken yet, as it was sent: sent again, it counts once. */
  #pending: ClientReport[] | undefined;
  #sending: Promise<void> | undefined;
  /** Nobody takes reports, or this installation is none that reports. */
  #isUnwanted = false;
  #hasFailed = false;

  constructor(parts: ReporterParts, { everyMs = EVERY_MS, share = 1 }: ReportOptions = {}) {
    if (!(everyMs >= 100 && everyMs <= EVERY_MS_MAX))
      throw new TypeError(`reports.everyMs is a number from 100 to ${EVERY_MS_MAX}`);
    if (!(share >= 0 && share <= 1)) throw new TypeError('reports.share is a number from 0 to 1');
    this.#parts = parts;
    this.#everyMs = everyMs;
    this.#random = parts.random ?? Math.random;
    this.#isChosen = shareOf(`commonweight.v1.Reporting\n${parts.clientId}`, parts.sha256).then((at) => at < share);
    this.#isChosen.catch(() => {});
  }

  /** Reports of a model from now on. Gives what ends it. */
  add(model: Reported): () => void {
    if (this.#models.size >= REPORT_MODELS_MAX) return () => {};
    this.#models.add(model);
    model.uses.onSwap = () => this.#within(SOON_MS);
    this.#within(Math.min(FIRST_MS, this.#everyMs));
    return () => void this.#models.delete(model);
  }

  /** Sends what was counted since the last report, unless that takes too long. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#closed.abort();
    if (this.#models.size === 0 || this.#isUnwanted || this.#hasFailed) return;
    const late = new AbortController();
    const last = async (): Promise<void> => {
      await this.#sending;
      await this.#send();
    };
    await Promise.race([last(), sleep(LAST_MS, late.signal)]);
    late.abort();
  }

  /** Reports in so many milliseconds at most, and not at once: others were told at the same moment. */
  #within(ms: number): void {
    const atMs = performance.now() + ms * (0.25 + 0.75 * this.#random());
    if (atMs >= this.#dueMs || this.#closed.signal.aborted || this.#isUnwanted) return;
    this.#at(atMs);
  }

  #at(atMs: number): void {
    clearTimeout(this.#timer);
    this.#dueMs = atMs;
    this.#timer = setTimeout(
      () => {
        this.#dueMs = Infinity;
        void this.#send();
      },
      Math.max(0, atMs - performance.now()),
    );
    // A process that has nothing else to do does not wait for a report.
    (this.#timer as { unref?: () => void }).unref?.();
  }

  /** One report at a time. */
  #send(): Promise<void> {
    this.#sending ??= this.#sendOnce().finally(() => (this.#sending = undefined));
    return this.#sending;
  }

  async #sendOnce(): Promise<void> {
    const { link } = this.#parts;
    if (link.report === undefined || !(await this.#isChosen)) return void (this.#isUnwanted = true);
    const reports = (this.#pending ??= await this.#taken());
    let waitMs: number;
    try {
      const { nextAfterMs } = await link.report(reports);
      this.#pending = undefined;
      this.#backoff.connected();
      this.#hasFailed = false;
      waitMs = Math.min(EVERY_MS_MAX, Math.max(this.#everyMs, nextAfterMs)) * (0.75 + this.#random() / 2);
    } catch (error) {
      this.#hasFailed = true;
      const isRefused = error instanceof TransportError && !error.passing && error.code !== 'cancelled';
      // One that is refused would be refused again: an older coordinator, or one that was set up anew.
      if (isRefused) this.#pending = undefined;
      waitMs = isRefused
        ? EVERY_MS_MAX
        : Math.max(SOON_MS, this.#backoff.nextMs(error instanceof TransportError ? error : {}));
    }
    if (!this.#closed.signal.aborted && performance.now() + waitMs < this.#dueMs) this.#at(performance.now() + waitMs);
  }

  async #taken(): Promise<ClientReport[]> {
    const { clientId, sha256 } = this.#parts;
    const reports = [];
    for (const { name, channel, uses, version, variant, runtime } of this.#models) {
      const who = new TextEncoder().encode(`commonweight.v1.Client\n${clientId}\n${name}`);
      reports.push(
        create(ClientReportSchema, {
          model: name,
          channel,
          client: (await sha256(who)).slice(0, 16),
          id: crypto.getRandomValues(new Uint8Array(8)),
          version: BigInt(version() ?? 0),
          variant: variant(),
          runtime,
          ...uses.take(),
        }),
      );
    }
    return reports;
  }
}

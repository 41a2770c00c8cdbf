import { create } from '@bufbuild/protobuf';
import { FleetStatusSchema, FleetVersionSchema, type FleetStatus, type FleetVersion } from '@commonweight/proto';
import type { Evidence } from '../channels/guard.ts';
import type { CheckedReport } from './checked-report.ts';
import { CLIENTS_MAX, Presence, type Running } from './presence.ts';
import { added, emptySummary, evidenceOf, meanOr, type Summary } from './summary.ts';
import { Windows } from './windows.ts';

export const WINDOW_MS: number = 10 * 60_000;
/** How often a client may report, and how many of them in a second there are to be at most. */
const EVERY_MS_MIN = 1_000;
const PER_SECOND_MAX = 200;
/** A fleet is looked through this often, at most: it may be large, and pages ask all the time. */
const LOOK_MS = 2_000;

/** What became of reports since the start. */
export interface ReportCounts {
  taken: number;
  /** Sent again, and counted before. */
  again: number;
  /** There is no room for one more client. */
  full: number;
  /** Not within the limits. */
  refused: number;
}

/** What clients of all models said: in memory, and bounded. */
export class FleetReports {
  readonly counts: ReportCounts = { taken: 0, again: 0, full: 0, refused: 0 };
  readonly #windowMs: number;
  readonly #presence: Presence;
  readonly #models = new Map<string, Windows>();
  /** Models of which something was said since their last snapshot. */
  readonly #changed = new Set<string>();
  readonly #fleets = new Map<string, { atMs: number; status: FleetStatus }>();

  constructor({ windowMs = WINDOW_MS, clientsMax = CLIENTS_MAX }: { windowMs?: number; clientsMax?: number } = {}) {
    this.#windowMs = windowMs;
    this.#presence = new Presence(clientsMax);
  }

  take(report: CheckedReport, nowMs: number): void {
    const taken = this.#presence.take(report, nowMs);
    this.counts[taken] += 1;
    if (taken !== 'taken') return;
    this.#windows(report.model).take(report, nowMs);
    this.#changed.add(report.model);
  }

  /** When the next report of a client is welcome: the more of them there are, the later. */
  nextAfterMs(): number {
    return Math.max(EVERY_MS_MIN, Math.round((this.#presence.size / PER_SECOND_MAX) * 1000));
  }

  /** What clients said of a version, by window. */
  evidence(model: string, version: number, nowMs: number): Evidence[] {
    return this.#windows(model).of(version, nowMs).map(evidenceOf);
  }

  forget(model: string, version: number): void {
    this.#models.get(model)?.forget(version);
  }

  /** Models of which anything was said. */
  models(): string[] {
    return [...this.#models.keys()].sort();
  }

  /** As it was a moment ago; the first report of all shows at once. */
  fleet(model: string, nowMs: number): FleetStatus {
    const known = this.#fleets.get(model);
    // The date may be set back.
    if (known !== undefined && Math.abs(nowMs - known.atMs) < LOOK_MS) return known.status;
    const status = this.#look(model, nowMs);
    if (status.versions.length > 0) this.#fleets.set(model, { atMs: nowMs, status });
    return status;
  }

  #look(model: string, nowMs: number): FleetStatus {
    const windows = this.#windows(model);
    const running = this.#presence.of(model, nowMs);
    const known = new Set([...windows.versions(nowMs), ...running.keys()]);
    const versions = [...known].filter((version) => version > 0).sort((a, b) => b - a);
    return create(FleetStatusSchema, {
      model,
      // Who serves nothing is about to, or has left.
      clients: [...running].reduce((sum, [version, { clients }]) => sum + (version > 0 ? clients : 0), 0),
      versions: versions.map((version) =>
        fleetVersion(version, running.get(version), windows.of(version, nowMs).reduce(added, emptySummary())),
      ),
      shadows: windows.shadows(nowMs).map(({ version, champion, summary }) => ({
        version: BigInt(version),
        champion: BigInt(champion),
        predictions: BigInt(summary.predictions),
        errors: BigInt(summary.errors),
        rows: BigInt(summary.rows),
        agreement: meanOr(summary.agreement, 1),
        differenceMax: summary.differenceMax,
        differenceMean: meanOr(summary.difference, 0),
        latencyP50Ms: summary.latencies.quantile(0.5),
        latencyP95Ms: summary.latencies.quantile(0.95),
      })),
      sinceMs: BigInt(windows.sinceMs(nowMs)),
    });
  }

  /** Models of which something new was said, with all that counts of it. */
  snapshots(nowMs: number): { model: string; text: string }[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed.map((model) => ({ model, text: this.#windows(model).snapshot(nowMs) }));
  }

  restore(model: string, text: string): void {
    this.#windows(model).restore(text);
  }

  #windows(model: string): Windows {
    let windows = this.#models.get(model);
    if (windows === undefined) this.#models.set(model, (windows = new Windows(this.#windowMs)));
    return windows;
  }
}

function fleetVersion(version: number, running: Running | undefined, summary: Summary): FleetVersion {
  const { predictions, errors, committed, reverted, refused, labelled, latencies, faults } = summary;
  return create(FleetVersionSchema, {
    version: BigInt(version),
    clients: running?.clients ?? 0,
    variants: Object.fromEntries(running?.variants ?? []),
    runtimes: Object.fromEntries(running?.runtimes ?? []),
    predictions: BigInt(predictions),
    errors: BigInt(errors),
    failing: meanOr(summary.failing, 0),
    latencyP50Ms: latencies.quantile(0.5),
    latencyP95Ms: latencies.quantile(0.95),
    committed: BigInt(committed),
    reverted: BigInt(reverted),
    refused: BigInt(refused),
    faults: Object.fromEntries([...faults].map(([fault, count]) => [fault, BigInt(count)])),
    labelled: BigInt(labelled),
    accuracy: meanOr(summary.accuracy, Number.NaN),
  });
}

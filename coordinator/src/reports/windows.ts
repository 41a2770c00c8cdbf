/**
 * What clients of one model said, in windows of time. In the window that is open each client has one entry, however often it reports;
 * of those that are over only sums stay.
 */
import { LogHistogram } from '@commonweight/core';
import type { Beside, CheckedReport, Use } from './checked-report.ts';
import { addedBesides, addedUses } from './added-uses.ts';
import {
  added,
  addedShadows,
  emptyShadow,
  emptySummary,
  summaryOf,
  withShadow,
  type ShadowSummary,
  type Summary,
} from './summary.ts';

/** Windows that count. */
export const WINDOWS = 6;
/** Clients of a window that count; what more of them say would not change what is known. */
const CLIENTS_MAX = 20_000;
/** Versions of a client in a window, and pairs with a shadow of a model. */
const VERSIONS_MAX = 8;
const SHADOWS_MAX = 32;
/** How often the open window is summed up, at most. */
const SUM_MS = 2_000;

/** What one client said in the open window. */
interface Said {
  uses: Map<number, Use>;
  /** By `<version> <champion>`. */
  shadows: Map<string, Beside>;
}

/** What all clients come to. */
interface Sums {
  versions: Map<number, Summary>;
  shadows: Map<string, ShadowSummary>;
}

interface Window {
  /** Of what is over, or was read from a snapshot. */
  closed: Sums;
  clients: Map<string, Said>;
  /** What the clients come to, for a while. */
  summed?: Sums & { atMs: number };
}

const nothing = (): Sums => ({ versions: new Map(), shadows: new Map() });

export class Windows {
  readonly #windowMs: number;
  /** By their number since 1970. */
  readonly #windows = new Map<number, Window>();

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  take({ client, uses, shadows }: CheckedReport, nowMs: number): void {
    this.look(nowMs);
    const window = this.#now(nowMs);
    let said = window.clients.get(client);
    if (said === undefined) {
      if (window.clients.size >= CLIENTS_MAX) return;
      window.clients.set(client, (said = { uses: new Map(), shadows: new Map() }));
    }
    for (const [version, use] of uses) keep(said.uses, version, use, addedUses);
    for (const beside of shadows) keep(said.shadows, `${beside.version} ${beside.champion}`, beside, addedBesides);
  }

  /** Closes what is over, and forgets what is old. */
  look(nowMs: number): void {
    const now = this.#number(nowMs);
    for (const [number, window] of this.#windows) {
      if (number <= now - WINDOWS) this.#windows.delete(number);
      else if (number < now && window.clients.size > 0) {
        window.closed = this.#sums(window, Infinity);
        window.clients = new Map();
        delete window.summed;
      }
    }
  }

  /** Summaries of a version by window, the newest last; of a window in which nobody spoke of it, an empty one. */
  of(version: number, nowMs: number): Summary[] {
    this.look(nowMs);
    return Array.from({ length: WINDOWS }, (_, i) => {
      const window = this.#windows.get(this.#number(nowMs) - WINDOWS + 1 + i);
      return (window && this.#sums(window, nowMs).versions.get(version)) ?? emptySummary();
    });
  }

  /** Versions that somebody spoke of. */
  versions(nowMs: number): Set<number> {
    this.look(nowMs);
    return new Set([...this.#windows.values()].flatMap((window) => [...this.#sums(window, nowMs).versions.keys()]));
  }

  /** What shadows said, by pairs of versions, the newest first. */
  shadows(nowMs: number): { version: number; champion: number; summary: ShadowSummary }[] {
    this.look(nowMs);
    const pairs = new Map<string, ShadowSummary>();
    for (const window of this.#windows.values()) {
      for (const [pair, summary] of this.#sums(window, nowMs).shadows)
        pairs.set(pair, addedShadows(pairs.get(pair) ?? emptyShadow(), summary));
    }
    const all = [...pairs].map(([pair, summary]) => {
      const [version = 0, champion = 0] = pair.split(' ').map(Number);
      return { version, champion, summary };
    });
    return all.sort((a, b) => b.version - a.version || b.champion - a.champion);
  }

  /** When the oldest window that counts began. */
  sinceMs(nowMs: number): number {
    return Math.min(this.#number(nowMs), ...this.#windows.keys()) * this.#windowMs;
  }

  /** Nothing that was said of a version counts any more. */
  forget(version: number): void {
    for (const window of this.#windows.values()) {
      window.closed.versions.delete(version);
      delete window.summed;
      for (const { uses } of window.clients.values()) uses.delete(version);
    }
  }

  /** All that counts, as text. */
  snapshot(nowMs: number): string {
    this.look(nowMs);
    const windows = [...this.#windows].map(([number, window]) => {
      const { versions, shadows } = this.#sums(window, nowMs);
      return {
        number,
        versions: [...versions].map(([version, { faults, latencies, ...rest }]) => {
          return { ...rest, version, faults: [...faults], latencies: [...latencies.entries()] };
        }),
        shadows: [...shadows].map(([pair, { latencies, ...rest }]) => {
          return { ...rest, pair, latencies: [...latencies.entries()] };
        }),
      };
    });
    return JSON.stringify({ windowMs: this.#windowMs, windows } satisfies Snapshot);
  }

  /** Goes on with what a snapshot has, unless it is of windows of another length. */
  restore(text: string): void {
    const { windowMs, windows } = JSON.parse(text) as Snapshot;
    if (windowMs !== this.#windowMs) return;
    for (const { number, versions, shadows } of windows) {
      const closed = nothing();
      for (const { version, faults, latencies, ...rest } of versions)
        closed.versions.set(version, { ...rest, faults: new Map(faults), latencies: LogHistogram.of(latencies) });
      for (const { pair, latencies, ...rest } of shadows)
        closed.shadows.set(pair, { ...rest, latencies: LogHistogram.of(latencies) });
      this.#windows.set(number, { closed, clients: new Map() });
    }
  }

  readonly #number = (nowMs: number): number => Math.floor(nowMs / this.#windowMs);

  #now(nowMs: number): Window {
    const number = this.#number(nowMs);
    let window = this.#windows.get(number);
    if (window === undefined) this.#windows.set(number, (window = { closed: nothing(), clients: new Map() }));
    return window;
  }

  /** Summing up a window means going through all its clients, so it is done now and then. */
  #sums(window: Window, nowMs: number): Sums {
    if (window.clients.size === 0) return window.closed;
    if (window.summed !== undefined && nowMs - window.summed.atMs < SUM_MS) return window.summed;
    const uses = new Map<number, Use[]>();
    const shadows = new Map(window.closed.shadows);
    for (const said of window.clients.values()) {
      for (const [version, use] of said.uses) {
        const known = uses.get(version);
        if (known === undefined) uses.set(version, [use]);
        else known.push(use);
      }
      for (const [pair, beside] of said.shadows) {
        const known = shadows.get(pair);
        if (known !== undefined || shadows.size < SHADOWS_MAX)
          shadows.set(pair, withShadow(known ?? emptyShadow(), beside));
      }
    }
    const versions = new Map(window.closed.versions);
    for (const [version, all] of uses)
      versions.set(version, added(versions.get(version) ?? emptySummary(), summaryOf(all)));
    window.summed = { atMs: nowMs, versions, shadows };
    return window.summed;
  }
}

/** Adds to what one client said of a version; of more versions than a client can well have had, nothing is kept. */
function keep<K, T>(all: Map<K, T>, key: K, value: T, add: (a: T, b: T) => T): void {
  const known = all.get(key);
  if (known !== undefined) all.set(key, add(known, value));
  else if (all.size < VERSIONS_MAX) all.set(key, value);
}

type Entries = (readonly [bucket: number, count: number])[];

/** Histograms and maps are lists. */
interface Snapshot {
  windowMs: number;
  windows: {
    number: number;
    versions: (Omit<Summary, 'faults' | 'latencies'> & {
      version: number;
      faults: [string, number][];
      latencies: Entries;
    })[];
    shadows: (Omit<ShadowSummary, 'latencies'> & { pair: string; latencies: Entries })[];
  }[];
}

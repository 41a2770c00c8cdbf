import { create } from '@bufbuild/protobuf';
import { LogHistogram } from '@commonweight/core';
import {
  LatencySketchSchema,
  REPORT_VERSIONS_MAX,
  ShadowUseSchema,
  SwapCountSchema,
  SwapFault,
  SwapOutcome,
  VersionUseSchema,
  type LatencySketch,
  type ShadowUse,
  type VersionUse,
} from '@commonweight/proto';

/** Why a version was taken back or refused. */
export type Fault = Lowercase<Exclude<keyof typeof SwapFault, 'UNSPECIFIED' | number>>;

interface Counts {
  variant: string;
  predictions: number;
  errors: number;
  latency: LogHistogram;
  /** By `<outcome> <fault>`. */
  swaps: Map<string, number>;
  labelled: number;
  right: number;
}

interface ShadowCounts {
  predictions: number;
  errors: number;
  rows: number;
  agreeing: number;
  differenceMax: number;
  differenceSum: number;
  latency: LogHistogram;
}

/** What a prediction of a shadow came to, beside that of the version that served. */
export interface ShadowRun {
  version: number;
  champion: number;
  ms: number;
  /** Undefined where it failed. */
  compared: { rows: number; agreeing: number; difference: number } | undefined;
}

/** How versions of one model do in this app, since somebody asked last. Of more versions than a report takes the oldest go. */
export class UseCounts {
  #versions = new Map<number, Counts>();
  #shadows = new Map<string, ShadowCounts>();
  /** Hears that an activation has ended. */
  onSwap: () => void = () => {};

  predicted(version: number, variant: string, ms: number): void {
    const counts = this.#of(version);
    counts.variant = variant;
    counts.predictions += 1;
    counts.latency.add(ms);
  }

  failed(version: number): void {
    const counts = this.#of(version);
    counts.predictions += 1;
    counts.errors += 1;
  }

  committed(version: number): void {
    this.#swap(version, SwapOutcome.COMMITTED, SwapFault.UNSPECIFIED);
  }

  reverted(version: number, fault: Fault): void {
    this.#swap(version, SwapOutcome.REVERTED, faultOf(fault));
  }

  refused(version: number, fault: Fault): void {
    this.#swap(version, SwapOutcome.REFUSED, faultOf(fault));
  }

  /** The app said what would have been right. */
  labelled(version: number, labels: number, right: number): void {
    const counts = this.#of(version);
    counts.labelled += labels;
    counts.right += right;
  }

  shadowed({ version, champion, ms, compared }: ShadowRun): void {
    const key = `${version} ${champion}`;
    let counts = this.#shadows.get(key);
    if (counts === undefined) {
      const none = { predictions: 0, errors: 0, rows: 0, agreeing: 0, differenceMax: 0, differenceSum: 0 };
      makeRoom(this.#shadows);
      this.#shadows.set(key, (counts = { ...none, latency: new LogHistogram() }));
    }
    counts.predictions += 1;
    if (compared === undefined) return void (counts.errors += 1);
    counts.latency.add(ms);
    counts.rows += compared.rows;
    counts.agreeing += compared.agreeing;
    counts.differenceMax = Math.max(counts.differenceMax, compared.difference);
    counts.differenceSum += compared.difference;
  }

  /** What was counted, and counts from nothing again. */
  take(): { uses: VersionUse[]; shadows: ShadowUse[] } {
    const uses = [...this.#versions].map(([version, { latency, swaps, ...counts }]) =>
      create(VersionUseSchema, {
        version: BigInt(version),
        variant: counts.variant,
        predictions: BigInt(counts.predictions),
        errors: BigInt(counts.errors),
        latency: sketchOf(latency),
        swaps: [...swaps].map(([kind, count]) => {
          const [outcome, fault] = kind.split(' ').map(Number) as [SwapOutcome, SwapFault];
          return create(SwapCountSchema, { outcome, fault, count });
        }),
        labelled: BigInt(counts.labelled),
        right: BigInt(counts.right),
      }),
    );
    const shadows = [...this.#shadows].map(([pair, { latency, ...counts }]) => {
      const [version = 0, champion = 0] = pair.split(' ').map(Number);
      return create(ShadowUseSchema, {
        version: BigInt(version),
        champion: BigInt(champion),
        predictions: BigInt(counts.predictions),
        errors: BigInt(counts.errors),
        rows: BigInt(counts.rows),
        agreeing: BigInt(counts.agreeing),
        differenceMax: counts.differenceMax,
        differenceSum: counts.differenceSum,
        latency: sketchOf(latency),
      });
    });
    this.#versions = new Map();
    this.#shadows = new Map();
    return { uses, shadows };
  }

  #swap(version: number, outcome: SwapOutcome, fault: SwapFault): void {
    const { swaps } = this.#of(version);
    const kind = `${outcome} ${fault}`;
    swaps.set(kind, (swaps.get(kind) ?? 0) + 1);
    this.onSwap();
  }

  #of(version: number): Counts {
    let counts = this.#versions.get(version);
    if (counts !== undefined) return counts;
    makeRoom(this.#versions);
    const none = { variant: '', predictions: 0, errors: 0, labelled: 0, right: 0 };
    this.#versions.set(version, (counts = { ...none, latency: new LogHistogram(), swaps: new Map() }));
    return counts;
  }
}

/** Lets go of what came first. */
function makeRoom<K>(all: Map<K, unknown>): void {
  const [first] = all.keys();
  if (all.size >= REPORT_VERSIONS_MAX && first !== undefined) all.delete(first);
}

const faultOf = (fault: Fault): SwapFault => SwapFault[fault.toUpperCase() as keyof typeof SwapFault];

function sketchOf(histogram: LogHistogram): LatencySketch {
  const entries = [...histogram.entries()];
  return create(LatencySketchSchema, {
    buckets: entries.map(([bucket]) => bucket),
    counts: entries.map(([, count]) => BigInt(count)),
  });
}

import { BUCKETS, LogHistogram } from '@commonweight/core';
import {
  isLabelValue,
  isName,
  REPORT_MODELS_MAX,
  REPORT_VERSIONS_MAX,
  SwapFault,
  SwapOutcome,
  type ClientReport,
  type LatencySketch,
  type ShadowUse,
  type VersionUse,
} from '@commonweight/proto';
import { ServiceError } from '../service.ts';

/** What a client did with one version. */
export interface Use {
  predictions: number;
  errors: number;
  latency: LogHistogram;
  committed: number;
  reverted: number;
  refused: number;
  /** Why versions were taken back or refused, by the fault's name. */
  faults: ReadonlyMap<string, number>;
  labelled: number;
  right: number;
}

/** What a version did beside the one that served. */
export interface Beside {
  version: number;
  champion: number;
  predictions: number;
  errors: number;
  rows: number;
  agreeing: number;
  differenceMax: number;
  differenceSum: number;
  latency: LogHistogram;
}

/** A report whose every part is within its limits. */
export interface CheckedReport {
  model: string;
  channel: string;
  client: string;
  id: string;
  version: number;
  variant: string;
  runtime: string;
  uses: ReadonlyMap<number, Use>;
  shadows: readonly Beside[];
}

const CLIENT_BYTES = 16;
const ID_BYTES = 8;
/** Of one client in one report: more is no honest count. */
const COUNT_MAX = 1e9;
const SWAPS_MAX = 64;

/** Throws ServiceError naming what is wrong. */
function checkedReport(report: ClientReport): CheckedReport {
  const { model, channel, client, id, variant, runtime, uses, shadows } = report;
  if (!isName(model) || !isName(channel)) throw wrong('names a model and a channel');
  if (client.length !== CLIENT_BYTES || id.length !== ID_BYTES) throw wrong('has a client of 16 bytes and an id of 8');
  if (![variant, runtime].every((text) => text === '' || isLabelValue(text)))
    throw wrong('says variant and runtime in up to 64 characters');
  if (uses.length > REPORT_VERSIONS_MAX || shadows.length > REPORT_VERSIONS_MAX)
    throw wrong(`is of ${REPORT_VERSIONS_MAX} versions at most`);
  return {
    model,
    channel,
    client: hex(client),
    id: hex(id),
    version: count(report.version),
    variant,
    runtime,
    uses: new Map(uses.map((use) => [count(use.version), checkedUse(use)])),
    shadows: shadows.map(checkedShadow),
  };
}

/** What a client says of its models. Throws ServiceError naming what is wrong: then nothing of it counts. */
export async function checkedReports(
  reports: readonly ClientReport[],
  newestOf: (model: string) => Promise<number>,
): Promise<CheckedReport[]> {
  if (reports.length > REPORT_MODELS_MAX) throw wrong(`is of ${REPORT_MODELS_MAX} models at most`);
  const checked = reports.map(checkedReport);
  for (const report of checked) {
    const newest = await newestOf(report.model);
    if (newest === 0 || versionsIn(report).some((version) => version > newest))
      throw wrong(`is of a model or a version that is not there (${report.model})`);
  }
  return checked;
}

/** Versions that a report speaks of. */
const versionsIn = ({ version, uses, shadows }: CheckedReport): number[] => [
  version,
  ...uses.keys(),
  ...shadows.flatMap((shadow) => [shadow.version, shadow.champion]),
];

function checkedUse({ swaps, latency, ...use }: VersionUse): Use {
  const [predictions, errors, labelled, right] = [use.predictions, use.errors, use.labelled, use.right].map(count) as [
    number,
    number,
    number,
    number,
  ];
  if (errors > predictions || right > labelled) throw wrong('counts no more errors than predictions');
  if (swaps.length > SWAPS_MAX) throw wrong(`counts ${SWAPS_MAX} kinds of swaps at most`);
  const ended = (wanted: SwapOutcome): number =>
    swaps.reduce((sum, swap) => sum + (swap.outcome === wanted ? swap.count : 0), 0);
  const faults = new Map<string, number>();
  for (const { fault, count: times } of swaps) {
    const name = faultName(fault);
    if (name !== undefined) faults.set(name, (faults.get(name) ?? 0) + times);
  }
  return {
    predictions,
    errors,
    latency: checkedLatency(latency, predictions),
    committed: ended(SwapOutcome.COMMITTED),
    reverted: ended(SwapOutcome.REVERTED),
    refused: ended(SwapOutcome.REFUSED),
    faults,
    labelled,
    right,
  };
}

function checkedShadow({ latency, differenceMax, differenceSum, ...shadow }: ShadowUse): Beside {
  const [version, champion, predictions, errors, rows, agreeing] = [
    shadow.version,
    shadow.champion,
    shadow.predictions,
    shadow.errors,
    shadow.rows,
    shadow.agreeing,
  ].map(count) as [number, number, number, number, number, number];
  if (errors > predictions || agreeing > rows || !(differenceMax >= 0 && differenceSum >= 0))
    throw wrong('counts no more errors than predictions');
  const counts = { version, champion, predictions, errors, rows, agreeing };
  return { ...counts, differenceMax, differenceSum, latency: checkedLatency(latency, predictions) };
}

function checkedLatency(sketch: LatencySketch | undefined, predictions: number): LogHistogram {
  if (sketch === undefined) return new LogHistogram();
  const { buckets, counts } = sketch;
  const isRising = buckets.every((bucket, i) => bucket < BUCKETS && bucket > (buckets[i - 1] ?? -1));
  if (!isRising || buckets.length !== counts.length) throw wrong(`sketches latencies in ${BUCKETS} buckets that rise`);
  const histogram = LogHistogram.of(buckets.map((bucket, i) => [bucket, count(counts[i]!)] as const));
  if (histogram.count > predictions) throw wrong('times no more than its predictions');
  return histogram;
}

function count(value: bigint): number {
  const number = Number(value);
  if (number > COUNT_MAX) throw wrong(`counts up to ${COUNT_MAX}`);
  return number;
}

/** 'warm-up'; undefined where there is none, or a later version's. */
const faultName = (fault: SwapFault): string | undefined =>
  fault === SwapFault.UNSPECIFIED ? undefined : FAULTS.get(fault);

const FAULTS: ReadonlyMap<SwapFault, string> = new Map(
  Object.entries(SwapFault)
    .filter(([, value]) => typeof value === 'number')
    .map(([name, value]) => [value as SwapFault, name.toLowerCase().replaceAll('_', '-')]),
);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const wrong = (what: string): ServiceError => new ServiceError('invalid', `a report ${what}`);

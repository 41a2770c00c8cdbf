/** What all clients of one version said in a window, in as many bytes for a thousand of them as for one. */
import { addedSpreads, LogHistogram, meanOf, NO_SPREAD, withValue, type Spread } from '@commonweight/core';
import type { Evidence } from '../channels/guard.ts';
import type { Beside, Use } from './checked-report.ts';

export interface Summary {
  clients: number;
  predictions: number;
  errors: number;
  committed: number;
  reverted: number;
  refused: number;
  labelled: number;
  /** Of each client one value. */
  failing: Spread;
  /** Binary logarithm of the p95 in milliseconds. */
  latency: Spread;
  reverting: Spread;
  accuracy: Spread;
  /** Latencies of all clients, each of which weighs the same. */
  latencies: LogHistogram;
  faults: Map<string, number>;
}

/** Predictions of one client before its p95 means anything. */
const TIMED_MIN = 10;

export function summaryOf(uses: Iterable<Use>): Summary {
  const all = emptySummary();
  for (const use of uses) {
    const { predictions, errors, latency, committed, reverted, refused, labelled, right, faults } = use;
    all.clients += 1;
    all.predictions += predictions;
    all.errors += errors;
    all.committed += committed;
    all.reverted += reverted;
    all.refused += refused;
    all.labelled += labelled;
    if (predictions > 0) all.failing = withValue(all.failing, errors / predictions);
    if (latency.count >= TIMED_MIN) all.latency = withValue(all.latency, Math.log2(latency.quantile(0.95)));
    if (latency.count > 0) all.latencies.merge(latency, 1 / latency.count);
    all.reverting = withValue(all.reverting, Number(reverted + refused > 0));
    if (labelled > 0) all.accuracy = withValue(all.accuracy, right / labelled);
    for (const [fault, count] of faults) all.faults.set(fault, (all.faults.get(fault) ?? 0) + count);
  }
  return all;
}

export const emptySummary = (): Summary => ({
  clients: 0,
  predictions: 0,
  errors: 0,
  committed: 0,
  reverted: 0,
  refused: 0,
  labelled: 0,
  failing: NO_SPREAD,
  latency: NO_SPREAD,
  reverting: NO_SPREAD,
  accuracy: NO_SPREAD,
  latencies: new LogHistogram(),
  faults: new Map(),
});

const COUNTS = ['clients', 'predictions', 'errors', 'committed', 'reverted', 'refused', 'labelled'] as const;
const SPREADS = ['failing', 'latency', 'reverting', 'accuracy'] as const;

export function added(a: Summary, b: Summary): Summary {
  const sum = emptySummary();
  for (const key of COUNTS) sum[key] = a[key] + b[key];
  for (const key of SPREADS) sum[key] = addedSpreads(a[key], b[key]);
  for (const { latencies, faults } of [a, b]) {
    sum.latencies.merge(latencies);
    for (const [fault, count] of faults) sum.faults.set(fault, (sum.faults.get(fault) ?? 0) + count);
  }
  return sum;
}

export const evidenceOf = ({ clients, predictions, failing, latency, reverting, accuracy }: Summary): Evidence => ({
  clients,
  predictions,
  failing,
  latency,
  reverting,
  accuracy,
});

/** What shadows of one pair of versions said; adds up. */
export interface ShadowSummary {
  predictions: number;
  errors: number;
  rows: number;
  /** Of each client one value. */
  agreement: Spread;
  difference: Spread;
  differenceMax: number;
  latencies: LogHistogram;
}

export const emptyShadow = (): ShadowSummary => ({
  predictions: 0,
  errors: 0,
  rows: 0,
  agreement: NO_SPREAD,
  difference: NO_SPREAD,
  differenceMax: 0,
  latencies: new LogHistogram(),
});

export function withShadow(all: ShadowSummary, beside: Beside): ShadowSummary {
  const { predictions, errors, rows, agreeing, differenceMax, differenceSum, latency } = beside;
  const latencies = new LogHistogram();
  latencies.merge(all.latencies);
  if (latency.count > 0) latencies.merge(latency, 1 / latency.count);
  const compared = predictions - errors;
  return {
    predictions: all.predictions + predictions,
    errors: all.errors + errors,
    rows: all.rows + rows,
    agreement: rows === 0 ? all.agreement : withValue(all.agreement, agreeing / rows),
    difference: compared === 0 ? all.difference : withValue(all.difference, differenceSum / compared),
    differenceMax: Math.max(all.differenceMax, differenceMax),
    latencies,
  };
}

export function addedShadows(a: ShadowSummary, b: ShadowSummary): ShadowSummary {
  const latencies = new LogHistogram();
  for (const each of [a, b]) latencies.merge(each.latencies);
  return {
    predictions: a.predictions + b.predictions,
    errors: a.errors + b.errors,
    rows: a.rows + b.rows,
    agreement: addedSpreads(a.agreement, b.agreement),
    difference: addedSpreads(a.difference, b.difference),
    differenceMax: Math.max(a.differenceMax, b.differenceMax),
    latencies,
  };
}

/** A mean of nothing is none. */
export const meanOr = (spread: Spread, otherwise: number): number => (spread.count === 0 ? otherwise : meanOf(spread));

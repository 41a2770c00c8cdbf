import { LogHistogram } from '@commonweight/core';
import type { Beside, Use } from './checked-report.ts';

/** What one client said of a version in two reports. */
export function addedUses(a: Use, b: Use): Use {
  const faults = new Map(a.faults);
  for (const [fault, count] of b.faults) faults.set(fault, (faults.get(fault) ?? 0) + count);
  return {
    predictions: a.predictions + b.predictions,
    errors: a.errors + b.errors,
    latency: both(a.latency, b.latency),
    committed: a.committed + b.committed,
    reverted: a.reverted + b.reverted,
    refused: a.refused + b.refused,
    faults,
    labelled: a.labelled + b.labelled,
    right: a.right + b.right,
  };
}

/** What one client said of a shadow in two reports. */
export function addedBesides(a: Beside, b: Beside): Beside {
  return {
    version: a.version,
    champion: a.champion,
    predictions: a.predictions + b.predictions,
    errors: a.errors + b.errors,
    rows: a.rows + b.rows,
    agreeing: a.agreeing + b.agreeing,
    differenceMax: Math.max(a.differenceMax, b.differenceMax),
    differenceSum: a.differenceSum + b.differenceSum,
    latency: both(a.latency, b.latency),
  };
}

function both(a: LogHistogram, b: LogHistogram): LogHistogram {
  const sum = new LogHistogram();
  sum.merge(a);
  sum.merge(b);
  return sum;
}

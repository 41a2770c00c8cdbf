import type { FleetStatus } from '@commonweight/proto';
import type { Counter, Gauge } from 'prom-client';
import type { ReportCounts } from '../../reports/fleet-reports.ts';

interface Makers {
  gauge(name: string, help: string, labelNames: string[]): Gauge;
  counter(name: string, help: string, labelNames: string[]): Counter;
}

/** Newest versions of a model that have figures: each is a series. */
const VERSIONS_MAX = 16;

/** What apps say, for Prometheus. */
export function fleetMetrics({ gauge, counter }: Makers): {
  read(fleets: readonly FleetStatus[], counts: ReportCounts): void;
} {
  const of = ['model', 'version'];
  const gauges = {
    clients: gauge('fleet_clients', 'Apps that were heard of lately and serve the version.', of),
    predictions: gauge('fleet_predictions', 'Predictions that apps reported lately.', of),
    errors: gauge('fleet_errors', 'Predictions that failed, of those that apps reported lately.', of),
    p50: gauge('fleet_latency_p50_seconds', 'Median latency of predictions, apps weighing the same.', of),
    p95: gauge('fleet_latency_p95_seconds', 'p95 latency of predictions, apps weighing the same.', of),
    accuracy: gauge('fleet_accuracy', 'Share of right answers by feedback, apps weighing the same.', of),
  };
  const swaps = gauge('fleet_swaps', 'How activations of the version ended lately.', [...of, 'outcome']);
  const reports = counter('reports_total', 'What became of reports of apps.', ['result']);
  return {
    read: (fleets, counts) => {
      for (const metric of [...Object.values(gauges), swaps, reports]) metric.reset();
      for (const { model, versions } of fleets) {
        for (const each of versions.slice(0, VERSIONS_MAX)) {
          const labels = { model, version: String(each.version) };
          gauges.clients.set(labels, each.clients);
          gauges.predictions.set(labels, Number(each.predictions));
          gauges.errors.set(labels, Number(each.errors));
          if (each.latencyP50Ms >= 0) gauges.p50.set(labels, each.latencyP50Ms / 1000);
          if (each.latencyP95Ms >= 0) gauges.p95.set(labels, each.latencyP95Ms / 1000);
          if (each.labelled > 0n) gauges.accuracy.set(labels, each.accuracy);
          for (const outcome of ['committed', 'reverted', 'refused'] as const)
            swaps.set({ ...labels, outcome }, Number(each[outcome]));
        }
      }
      for (const [result, count] of Object.entries(counts)) reports.inc({ result }, count);
    },
  };
}

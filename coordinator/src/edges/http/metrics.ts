import { Gauge, Registry } from 'prom-client';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { CoordinatorService } from '../../service.ts';

/** The coordinator's figures for Prometheus, read from its state when they are asked for. */
export interface Metrics {
  contentType: string;
  text(): Promise<string>;
  close(): void;
}

export function metricsOf(service: CoordinatorService): Metrics {
  const registry = new Registry();
  const gauge = (name: string, help: string, labelNames: string[]): Gauge =>
    new Gauge({ name: `commonweight_${name}`, help, labelNames, registers: [registry] });
  const perTask = {
    round: gauge('round', 'Number of the newest round.', ['task']),
    version: gauge('model_version', 'Newest version of the model.', ['task']),
    cohort: gauge('cohort', 'Agents invited to the open round.', ['task']),
    accepted: gauge('round_updates_accepted', 'Updates in the open round.', ['task']),
    updatesAccepted: gauge('updates_accepted_total', 'Updates taken over the life of the task.', ['task']),
    bytesUp: gauge('bytes_up_total', 'Bytes of updates received.', ['task']),
    bytesDown: gauge('bytes_down_total', 'Bytes of models and assignments sent.', ['task']),
    agentsOnline: gauge('agents_online', 'Agents with an open session.', ['task']),
    roundsAbandoned: gauge('rounds_abandoned_total', 'Rounds that missed their minimum.', ['task']),
  };
  const rejected = gauge('updates_rejected_total', 'Updates refused, by reason.', ['task', 'reason']);
  const loop = monitorEventLoopDelay({ resolution: 10 });
  loop.enable();
  const loopDelay = gauge('event_loop_delay_p99_seconds', 'Delay of the event loop, 99th percentile.', []);
  return {
    contentType: registry.contentType,
    text: async () => {
      for (const status of await service.listTasks()) {
        for (const [name, metric] of Object.entries(perTask)) {
          metric.set({ task: status.task }, Number(status[name as keyof typeof perTask]));
        }
        for (const [reason, count] of Object.entries(status.rejectedByReason))
          rejected.set({ task: status.task, reason }, Number(count));
      }
      loopDelay.set(loop.percentile(99) / 1e9);
      return registry.metrics();
    },
    close: () => loop.disable(),
  };
}

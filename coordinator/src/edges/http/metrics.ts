import { Counter, Gauge, Registry } from 'prom-client';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { CoordinatorService } from '../../service.ts';
import { fleetMetrics } from './fleet-metrics.ts';

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
  const counter = (name: string, help: string, labelNames: string[]): Counter =>
    new Counter({ name: `commonweight_${name}`, help, labelNames, registers: [registry] });
  const gauges = {
    round: gauge('round', 'Number of the newest round.', ['task']),
    version: gauge('model_version', 'Newest version of the model.', ['task']),
    cohort: gauge('cohort', 'Agents invited to the open round.', ['task']),
    accepted: gauge('round_updates_accepted', 'Updates in the open round.', ['task']),
    updatesMax: gauge('round_updates_max', 'Updates that close the open round.', ['task']),
    agentsResting: gauge('agents_resting', 'Agents that are ready and took part too lately for the next round.', [
      'task',
    ]),
    agentsOnline: gauge('agents_online', 'Agents with an open session.', ['task']),
  };
  const counters = {
    updatesAccepted: counter('updates_accepted_total', 'Updates taken over the life of the task.', ['task']),
    bytesUp: counter('bytes_up_total', 'Bytes of updates received.', ['task']),
    bytesDown: counter('bytes_down_total', 'Bytes of models and assignments sent.', ['task']),
    candidatesRefused: counter('candidates_refused_total', 'What rounds made and a gate refused.', ['task']),
    roundsAbandoned: counter('rounds_abandoned_total', 'Rounds that missed their minimum.', ['task']),
  };
  const rejected = counter('updates_rejected_total', 'Updates refused, by reason.', ['task', 'reason']);
  const unqualified = gauge('agents_unqualified', 'Agents that a task may not invite, by what they lack.', [
    'task',
    'lack',
  ]);
  const undecodable = counter('messages_undecodable_total', 'Messages whose bytes could not be decoded.', []);
  const sentAway = counter('agents_sent_away_total', 'Agents told to come back later, since no task needed them.', []);
  const fleet = fleetMetrics({ gauge, counter });
  const loop = monitorEventLoopDelay({ resolution: 10 });
  loop.enable();
  const loopDelay = gauge(
    'event_loop_delay_p99_seconds',
    'Time between two looks at the event loop, 10 ms where nothing delays it: 99th percentile since it was last asked for.',
    [],
  );
  const diskFull = gauge('disk_full', 'Whether uploads are refused for want of room.', []);
  return {
    contentType: registry.contentType,
    text: async () => {
      const tasks = await service.listTasks();
      // The tasks have counted already: a counter here is emptied and filled with what they say.
      for (const metric of [...Object.values(counters), rejected, sentAway, undecodable]) metric.reset();
      unqualified.reset();
      for (const status of tasks) {
        const { task } = status;
        for (const [name, metric] of Object.entries(gauges)) {
          metric.set({ task }, Number(status[name as keyof typeof gauges]));
        }
        for (const [name, metric] of Object.entries(counters)) {
          metric.inc({ task }, Number(status[name as keyof typeof counters]));
        }
        for (const [lack, count] of Object.entries(status.agentsUnqualified)) unqualified.set({ task, lack }, count);
        for (const [reason, count] of Object.entries(status.rejectedByReason)) {
          rejected.inc({ task, reason }, Number(count));
        }
      }
      fleet.read(await service.getFleets(''), service.reportCounts);
      undecodable.inc(service.undecodable);
      sentAway.inc(service.sentAway);
      diskFull.set(service.diskIsFull ? 1 : 0);
      loopDelay.set(loop.percentile(99) / 1e9);
      loop.reset();
      return registry.metrics();
    },
    close: () => loop.disable(),
  };
}

import type { DemoEvent, Started, Status, Summary } from './events.ts';

/** All that the demo knows of itself, gathered from its events. */
export interface Progress {
  started: Started | undefined;
  status: Status | undefined;
  /** Accuracy on the held-out images by version, in the order they were measured. */
  accuracies: readonly { version: number; accuracy: number }[];
  serving: number | undefined;
  /** The form in which that version serves, and why. */
  variant: { name: string; why: string } | undefined;
  swaps: number;
  superseded: number;
  predictions: number;
  failedPredictions: number;
  trainings: number;
  trainMs: number;
  notes: readonly string[];
}

export const nothingYet: Progress = {
  started: undefined,
  status: undefined,
  accuracies: [],
  serving: undefined,
  variant: undefined,
  swaps: 0,
  superseded: 0,
  predictions: 0,
  failedPredictions: 0,
  trainings: 0,
  trainMs: 0,
  notes: [],
};

const NOTES_MAX = 3;

export function progressed(before: Progress, event: DemoEvent): Progress {
  switch (event.event) {
    case 'started':
      return { ...before, started: event };
    case 'status':
      return { ...before, status: event };
    case 'version':
      return {
        ...before,
        serving: event.version,
        variant: { name: event.variant, why: event.why },
        swaps: before.swaps + 1,
      };
    case 'superseded':
      return { ...before, superseded: before.superseded + 1 };
    case 'accuracy':
      return { ...before, accuracies: [...before.accuracies, { version: event.version, accuracy: event.accuracy }] };
    case 'predictions':
      return { ...before, predictions: event.predictions, failedPredictions: event.failed };
    case 'agent':
      if (event.trainMs === undefined) return before;
      return { ...before, trainings: before.trainings + 1, trainMs: before.trainMs + event.trainMs };
    case 'note':
      return noted(before, event.text);
    case 'restart':
      return noted(before, `${event.program} ended (${event.why}) and was started again`);
    case 'published':
      return before;
  }
}

const noted = (before: Progress, note: string): Progress => ({
  ...before,
  notes: [...before.notes, note].slice(-NOTES_MAX),
});

/** Whether the task is finished and the app serves, and has measured, what came out of it. */
export function isDone({ status, serving, accuracies }: Progress): boolean {
  if (status === undefined || status.state !== 'finished') return false;
  return serving === status.version && accuracies.some(({ version }) => version === status.version);
}

export function summaryOf(progress: Progress, ms: number): Summary {
  const { status, started, accuracies, swaps, superseded, failedPredictions, trainMs, trainings } = progress;
  return {
    event: 'summary',
    rounds: status?.round ?? 0,
    accuracy: accuracies.at(-1)?.accuracy ?? 0,
    versions: status?.version ?? 0,
    agents: started?.agents ?? { grpc: 0, nats: 0 },
    updatesAccepted: status?.updatesAccepted ?? 0,
    updatesRejected: status?.updatesRejected ?? 0,
    bytesUp: status?.bytesUp ?? 0,
    bytesDown: status?.bytesDown ?? 0,
    trainMs: trainings === 0 ? 0 : Math.round(trainMs / trainings),
    swaps,
    variant: progress.variant?.name ?? 'fp32',
    superseded,
    failedPredictions,
    seconds: Math.round(ms / 100) / 10,
  };
}

import { expect, test } from 'vitest';
import type { DemoEvent, Status } from './events.ts';
import { isDone, nothingYet, progressed, summaryOf } from './progress.ts';

const status = (change: Partial<Status>): Status => ({
  event: 'status',
  state: 'running',
  phase: 'Collecting',
  round: 2,
  version: 2,
  cohort: 2,
  accepted: 1,
  updatesAccepted: 3,
  updatesRejected: 0,
  rejectedByReason: {},
  bytesUp: 10,
  bytesDown: 20,
  agentsOnline: 2,
  waiting: '',
  ...change,
});

const events: DemoEvent[] = [
  { event: 'version', version: 1, reason: 'first', variant: 'fp32', why: 'nothing was measured', candidates: [] },
  { event: 'accuracy', version: 1, accuracy: 0.1 },
  { event: 'agent', agent: 'a', link: 'grpc', what: 'trained', trainMs: 30 },
  { event: 'agent', agent: 'b', link: 'nats', what: 'trained', trainMs: 50 },
  { event: 'superseded', version: 2 },
  { event: 'version', version: 3, reason: 'newer', variant: 'int8-static', why: 'it is faster', candidates: [] },
  { event: 'predictions', predictions: 40, failed: 0 },
  status({ state: 'finished', version: 3 }),
];

test('a demo is done once the app has measured the last version', () => {
  const before = events.reduce(progressed, nothingYet);
  expect(isDone(before)).toBe(false);
  expect(isDone(progressed(before, { event: 'accuracy', version: 3, accuracy: 0.9 }))).toBe(true);
});

test('the form of the version that serves is told', () => {
  const progress = events.reduce(progressed, nothingYet);
  expect(progress.variant).toEqual({ name: 'int8-static', why: 'it is faster' });
  expect(summaryOf(progress, 1).variant).toBe('int8-static');
});

test('swaps and superseded versions add up to the versions', () => {
  const { versions, swaps, superseded, trainMs, failedPredictions } = summaryOf(
    events.reduce(progressed, nothingYet),
    1234,
  );
  expect({ versions, swaps, superseded, trainMs, failedPredictions }).toEqual({
    versions: 3,
    swaps: 2,
    superseded: 1,
    trainMs: 40,
    failedPredictions: 0,
  });
});

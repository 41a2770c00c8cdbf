import { fromBinary } from '@bufbuild/protobuf';
import { startCoordinator } from '@commonweight/coordinator';
import { mlp, writeModel } from '@commonweight/core';
import { labelsOf, loadDataset, runAgent, type AgentEvent } from '@commonweight/edge-agent';
import { CandidateSchema, CandidateState, ResultSchema, StatisticsSchema } from '@commonweight/proto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { examplesOf } from '../support/digit-models.ts';
import { temporaryFolder, until } from '../support/processes.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const specs = ['mnist?partition=0/40&seed=1', 'mnist?partition=1/40&seed=1'];
let coordinator: Awaited<ReturnType<typeof startCoordinator>>;
beforeEach(async () => {
  coordinator = await startCoordinator({ dataDir: temporaryFolder('gates'), grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  closers.push(() => coordinator.close());
  await coordinator.service.importModel('digits', writeModel(mlp({ inputs: 784, hidden: [16], outputs: 10, seed: 1 })));
});

function run(agentId: string, data: string, isEvaluator = false): AgentEvent[] {
  const events: AgentEvent[] = [];
  const stop = new AbortController();
  const running = runAgent({
    coordinator: `grpc://127.0.0.1:${coordinator.grpcPort}`,
    data,
    agentId,
    dataDir: temporaryFolder('gates-agent'),
    isEvaluator,
    signal: stop.signal,
    onEvent: (event) => events.push(event),
  });
  closers.push(async () => {
    stop.abort();
    await running;
  });
  return events;
}

async function start(task: string, config: object): Promise<void> {
  await coordinator.service.createTask(task, JSON.stringify({ model: 'digits', ...config }));
  await coordinator.service.startTask(task);
}

const cohort = { min: 2, max: 2 };
const sgd = (learningRate: number) => ({
  loss: 'cross-entropy',
  optimizer: { name: 'sgd', learningRate },
  epochs: 5,
  batchSize: 10,
});

test('what a judge with examples of its own finds worse is never served, and training goes on from the version before', async () => {
  const { service } = coordinator;
  const training = specs.map((spec, i) => run(`a${i}`, spec));
  const judging = run('judge', 'mnist?split=test', true);
  const gates = { metric: { name: 'accuracy', margin: 0 } };
  await start('good', { plan: sgd(0.1), cohort, rounds: 1, evaluators: ['judge'], gates });
  await until('a version', 120_000, async () => (await service.getTask('good')).state === 'finished');
  await start('wild', { plan: sgd(300), cohort, evaluators: ['judge'], gates });
  await until('two refusals', 120_000, async () => (await service.getTask('wild')).candidatesRefused >= 2n);
  await service.pauseTask('wild');
  const candidates = (await service.listCandidates('digits')).map(({ candidate }) =>
    fromBinary(CandidateSchema, candidate!.candidate),
  );
  const [passed, refused] = candidates;
  expect(passed).toMatchObject({ state: CandidateState.PUBLISHED, version: 2n });
  const accuracy = (of: typeof passed): number => of?.evaluation?.metrics['accuracy'] ?? Number.NaN;
  expect(accuracy(passed)).toBeGreaterThan(0.4);
  expect(accuracy(refused)).toBeLessThan(accuracy(passed));
  expect(refused).toMatchObject({ state: CandidateState.REFUSED, baseVersion: 2n, version: 0n });
  // Of the version before it finds the same again.
  expect(refused?.baseEvaluation).toEqual(passed?.evaluation);
  expect((await service.listVersions('digits')).length).toBe(2);
  const outcomes = (events: AgentEvent[]) => events.filter(({ type }) => type === 'receipt' || type === 'rejected');
  await until('the ends of refused updates', 60_000, () => training.every((events) => outcomes(events).length >= 3));
  for (const events of training)
    expect(events.filter((event) => event.type === 'rejected')).toMatchObject([{ reason: 'gate' }, { reason: 'gate' }]);
  expect(judging.filter(({ type }) => type === 'assignment').length).toBeGreaterThanOrEqual(3);
}, 400_000);

test('a judge trains beside the cohort where updates are held against its own', async () => {
  const { service } = coordinator;
  for (const [i, spec] of specs.entries()) run(`a${i}`, spec);
  const judging = run('judge', 'mnist?partition=2/40&seed=1', true);
  await start('trusted', { plan: sgd(0.1), cohort, rounds: 2, strategy: { name: 'flTrust' }, evaluators: ['judge'] });
  await until('two versions', 120_000, async () => (await service.getTask('trusted')).state === 'finished');
  expect((await service.listVersions('digits')).length).toBe(3);
  expect(await service.getTask('trusted')).toMatchObject({ version: 3n, updatesAccepted: 6n, updatesRejected: 0n });
  await until('its receipts', 60_000, () => judging.filter(({ type }) => type === 'receipt').length === 2);
}, 400_000);

test('statistics and an evaluation by two agents are those of their data together', async () => {
  const { service } = coordinator;
  const agents = specs.map((spec, i) => run(`a${i}`, spec));
  await start('count', { kind: 'statistics', cohort, statistics: { features: 'all' } });
  await start('look', { kind: 'evaluate', cohort, evaluation: { loss: 'cross-entropy', metrics: ['accuracy'] } });
  for (const task of ['count', 'look'])
    await until(task, 120_000, async () => (await service.getTask(task)).state === 'finished');
  const [counted] = await service.listResults({ task: 'count' });
  const { statisticsDigest, statisticsSize } = fromBinary(ResultSchema, counted!.result);
  const { data } = await service.readBlob(statisticsDigest, 0, Number(statisticsSize));
  const { examples, features, labels } = fromBinary(StatisticsSchema, data);
  const sets = await Promise.all(specs.map(loadDataset));
  const values = sets.flatMap((set) => [...examplesOf(set, 0, set.examples).inputs]);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  expect(Number(examples)).toBe(sets.reduce((sum, one) => sum + one.examples, 0));
  expect(features[0]).toMatchObject({ count: BigInt(values.length), missing: 0n });
  expect(features[0]?.mean).toBeCloseTo(mean, 5);
  expect(features[0]?.variance).toBeCloseTo(variance, 5);
  const digits = sets.flatMap((one) => [...labelsOf(one)!]);
  expect(labels.map(Number)).toEqual([
    ...Array.from({ length: 10 }, (_, digit) => digits.filter((label) => label === digit).length),
    0,
  ]);
  const [looked] = await service.listResults({ model: 'digits' }).then((all) => all.slice(-1));
  expect(fromBinary(ResultSchema, looked!.result)).toMatchObject({
    task: 'look',
    version: 1n,
    evaluation: { reports: 2 },
  });
  for (const events of agents) expect(events.filter(({ type }) => type === 'counted').length).toBe(2);
}, 400_000);

import { fromBinary } from '@bufbuild/protobuf';
import { ResultSchema, StatisticsSchema, type Result, type Statistics } from '@commonweight/proto';
import { afterEach, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../../test/support/processes.ts';
import { accuracyReport, reportOf, statisticsReport } from '../../test/support/test-reports.ts';
import { invited, startTraining, TestAgent, updateOf } from '../../test/support/training.ts';
import { openCoordinator } from './coordinator.ts';
import { openSigner } from './identity/signer.ts';
import type { CoordinatorService } from './service.ts';
import { SqliteStore } from './store/sqlite-store.ts';
import { verifyStore } from './store/verify.ts';

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

async function opened(dataDir = temporaryFolder('measure')): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir });
  open.push(service);
  return service;
}

const ids = ['a', 'b', 'c'];
const work = ['train', 'evaluate', 'statistics'];
const agentsOf = (service: CoordinatorService, names: readonly string[] = ids): TestAgent[] => {
  const agents = names.map((id) => new TestAgent(service, id, { work }));
  for (const agent of agents) agent.ready();
  return agents;
};

async function begun(service: CoordinatorService, task: string, asked: object): Promise<void> {
  await service.createTask(task, JSON.stringify({ model: 'flowers', cohort: { min: 3, max: 3 }, ...asked }));
  await service.startTask(task);
}

const results = async (service: CoordinatorService, of: { task: string } | { model: string }): Promise<Result[]> =>
  (await service.listResults(of)).map(({ result }) => fromBinary(ResultSchema, result));

async function statisticsOf(
  service: CoordinatorService,
  { statisticsDigest, statisticsSize }: Result,
): Promise<Statistics> {
  const { data } = await service.readBlob(statisticsDigest, 0, Number(statisticsSize));
  return fromBinary(StatisticsSchema, data);
}

const assignmentOf = async (agent: TestAgent, task: string, count = 1) => {
  const all = () => agent.assignments().filter((one) => one.task === task);
  await expect.poll(() => all().length).toBe(count);
  return all().at(-1)!;
};

const evaluate = { kind: 'evaluate', evaluation: { loss: 'cross-entropy', metrics: ['accuracy'] } };

describe('an evaluation as a task', () => {
  test('agents measure the newest version; what they found is one record, signed and durable, of all examples together', async () => {
    const dataDir = temporaryFolder('measure');
    const service = await opened(dataDir);
    await startTraining(service);
    await service.pauseTask('train');
    await begun(service, 'look', evaluate);
    const agents = agentsOf(service);
    for (const [i, agent] of agents.entries()) {
      const assignment = await assignmentOf(agent, 'look');
      expect(JSON.parse(assignment.planJson)).toMatchObject({
        loss: 'cross-entropy',
        metrics: ['accuracy'],
        holdOut: 0.1,
      });
      const report = accuracyReport(assignment, 100 * (i + 1), [50]);
      expect(await agent.submit(reportOf(agent.id, assignment, report))).toMatchObject({ accepted: true });
    }
    await expect.poll(async () => (await service.getTask('look')).state).toBe('finished');
    for (const agent of agents)
      expect(agent.receipts()).toMatchObject([{ round: 1n, outcome: { case: 'countedRound', value: 1n } }]);
    const expected = {
      task: 'look',
      round: 1n,
      kind: 'evaluate',
      model: 'flowers',
      version: 1n,
      evaluation: { reports: 3, examples: 600n, metrics: { accuracy: 0.25 } },
    };
    expect(await results(service, { task: 'look' })).toMatchObject([expected]);
    await service.close();
    const again = await opened(dataDir);
    expect(await results(again, { model: 'flowers' })).toMatchObject([expected]);
    expect((await again.getTask('look')).metrics).toEqual({ accuracy: 0.25 });
    await again.close();
    const store = SqliteStore.open(dataDir);
    open.push(store);
    expect((await verifyStore(store, openSigner(dataDir).publicKey)).damages).toEqual([]);
  });

  test('without end it measures each version that comes, beside the task that makes them, which leaves it its turn', async () => {
    const service = await opened();
    await startTraining(service, { rounds: 0, cohort: { min: 3, max: 3 } });
    await begun(service, 'look', { ...evaluate, rounds: 0 });
    const agents = agentsOf(service);
    const train = async (round: number, version: number): Promise<void> => {
      for (const agent of agents) {
        const { grid } = await assignmentOf(agent, 'train', round);
        const { lsbExponent, valueMaxExponent, weightMax, cohortMax } = grid!;
        const update = updateOf(
          agent.id,
          { lsbExponent, valueMaxExponent, weightMax, cohortMax },
          { round: BigInt(round), baseVersion: BigInt(version) },
        );
        expect(await agent.submit(update)).toMatchObject({ accepted: true });
      }
    };
    const look = async (round: number): Promise<void> => {
      for (const agent of agents) {
        const assignment = await assignmentOf(agent, 'look', round);
        await agent.submit(reportOf(agent.id, assignment, accuracyReport(assignment, 10, [5])));
      }
    };
    await train(1, 1);
    // It has waited while the round was on.
    await look(1);
    await train(2, 2);
    await look(2);
    const measured = async () => (await results(service, { task: 'look' })).map(({ version }) => Number(version));
    await expect.poll(async () => (await measured()).length).toBe(2);
    // Its rounds begin when its agents have delivered, perhaps a moment before the version of that is out.
    const [one, other] = (await measured()) as [number, number];
    expect(other).toBe(one + 1);
    // What it has measured is not measured again.
    await service.pauseTask('train');
    if (other === 2) await look(3);
    const waiting = 'version 3 is measured: waiting for a newer one';
    await expect.poll(async () => (await service.getTask('look')).waiting).toBe(waiting);
  });

  test('a crash in its middle: it goes on with the version that it was of, and each report counts once', async () => {
    const dataDir = temporaryFolder('measure');
    const service = await opened(dataDir);
    await startTraining(service);
    await service.pauseTask('train');
    await begun(service, 'look', evaluate);
    const agents = agentsOf(service);
    const reports = [];
    for (const agent of agents) {
      const assignment = await assignmentOf(agent, 'look');
      reports.push(reportOf(agent.id, assignment, accuracyReport(assignment, 100, [25])));
    }
    await agents[0]!.submit(reports[0]!);
    await service.close();
    const again = await opened(dataDir);
    for (const [i, id] of ids.entries()) {
      const agent = new TestAgent(again, id, { work });
      expect(await agent.submit(reports[i]!)).toMatchObject({ accepted: true });
      expect(await agent.submit(reports[i]!)).toMatchObject({ accepted: true });
    }
    await expect
      .poll(async () => (await results(again, { task: 'look' }))[0]?.evaluation)
      .toMatchObject({ reports: 3, examples: 300n });
  });

  test('agents of a version before are not asked, and counted as what they do not know', async () => {
    const service = await opened();
    await startTraining(service);
    await service.pauseTask('train');
    await begun(service, 'look', evaluate);
    const old = new TestAgent(service, 'old');
    old.ready();
    await expect.poll(async () => (await service.getTask('look')).agentsUnqualified).toEqual({ 'work evaluate': 1 });
    expect(old.assignments()).toEqual([]);
  });
});

describe('statistics as a task', () => {
  const counted = { kind: 'statistics', statistics: { features: 'each' } };

  test('agents count their data, which never leaves them; the result has each input and the labels', async () => {
    const service = await opened();
    await startTraining(service);
    await service.pauseTask('train');
    await begun(service, 'look', counted);
    const agents = agentsOf(service);
    for (const [i, agent] of agents.entries()) {
      const assignment = await assignmentOf(agent, 'look');
      expect(assignment.weightsInline).toHaveLength(0);
      const inputs = Float32Array.from({ length: 24 }, (_, at) => (at % 12) + i);
      await agent.submit(reportOf(agent.id, assignment, statisticsReport(assignment, inputs, [0, i])));
    }
    await expect.poll(async () => (await service.getTask('look')).state).toBe('finished');
    const [result] = await results(service, { task: 'look' });
    expect(result).toMatchObject({ kind: 'statistics', evaluation: { reports: 3, examples: 6n, metrics: {} } });
    const { examples, features, labels } = await statisticsOf(service, result!);
    expect({ examples, labels }).toEqual({ examples: 6n, labels: [4n, 1n, 1n, 0n] });
    expect(features).toHaveLength(12);
    for (const [at, feature] of features.entries()) {
      expect(feature).toMatchObject({ count: 6n, missing: 0n, mean: at + 1 });
      expect(feature.variance).toBeCloseTo(2 / 3, 10);
    }
  });

  test('a task of another kind than there is, with keys of another, or of one agent alone is refused', async () => {
    const service = await opened();
    await startTraining(service);
    const create = (asked: object) => begun(service, 'x', asked);
    await expect(create({ kind: 'dream' })).rejects.toThrow('kind must be one of train, evaluate, statistics');
    await expect(create({ ...counted, plan: {} })).rejects.toThrow('key "plan" is not known');
    await expect(create({ ...counted, evaluators: ['a'] })).rejects.toThrow(/statistics are of those who train/);
    await expect(create({ ...counted, cohort: { min: 1, max: 3 } })).rejects.toThrow(/those of one agent are its data/);
    await expect(create({ ...evaluate, evaluation: { loss: 'mse' } })).rejects.toThrow(
      /evaluation.metrics must be a list of what goes with mse/,
    );
    await expect(create({ ...evaluate, evaluation: { loss: 'cross-entropy', on: 1 } })).rejects.toThrow(
      /evaluation.on is not known/,
    );
    await expect(create({ ...counted, statistics: { low: 99 } })).rejects.toThrow(/statistics.low must be/);
  });
});

test('a task that waits for longer comes first, and one whose agents are not there keeps nobody waiting', async () => {
  const service = await opened();
  await startTraining(service, { rounds: 0, cohort: { min: 2, max: 2 } });
  // More than there are.
  await begun(service, 'crowd', { ...evaluate, cohort: { min: 9, max: 9 } });
  const agents = agentsOf(service, ['a', 'b']);
  const grid = await invited(agents);
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
  await expect.poll(() => agents.every((agent) => agent.assignments().length === 2)).toBe(true);
  expect(agents.every((agent) => agent.assignments().every(({ task }) => task === 'train'))).toBe(true);
});

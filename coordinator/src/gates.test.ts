import { fromBinary } from '@bufbuild/protobuf';
import { encodings, seeded, weightsFromBytes, type GridSpec } from '@commonweight/core';
import {
  CandidateSchema,
  CandidateState,
  gridFromWire,
  ManifestSchema,
  Reason,
  type Candidate,
  type Manifest,
} from '@commonweight/proto';
import { afterEach, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../../test/support/processes.ts';
import { accuracyReport, reportOf } from '../../test/support/test-reports.ts';
import { config, LENGTH, offerOf, startTraining, TestAgent, updateOf } from '../../test/support/training.ts';
import { openCoordinator } from './coordinator.ts';
import { openSigner } from './identity/signer.ts';
import type { CoordinatorService } from './service.ts';
import { SqliteStore } from './store/sqlite-store.ts';
import { verifyStore } from './store/verify.ts';

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

async function opened(dataDir = temporaryFolder('gates')): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir });
  open.push(service);
  return service;
}

const newest = async (service: CoordinatorService): Promise<Manifest> =>
  fromBinary(ManifestSchema, (await service.getModel('flowers', 0)).manifest);
const weightsOf = async (service: CoordinatorService, of: Pick<Candidate, 'artifacts'>): Promise<Float32Array> => {
  const { digest, size } = of.artifacts.find(({ role }) => role === 'weights')!;
  return weightsFromBytes((await service.readBlob(digest, 0, Number(size))).data);
};
const candidates = async (service: CoordinatorService) =>
  (await service.listCandidates('flowers')).map(({ candidate, kept }) => ({
    ...fromBinary(CandidateSchema, candidate!.candidate),
    kept,
  }));

/** The newest invitation of an agent, once it is to some round. */
async function invitation(agent: TestAgent, round: number) {
  await expect.poll(() => Number(agent.assignments().at(-1)?.round ?? 0)).toBe(round);
  return agent.assignments().at(-1)!;
}

/** An update whose values are all the same. */
function flat(
  agent: TestAgent,
  grid: GridSpec,
  { round, version, value }: { round: number; version: number; value: number },
) {
  const payload = encodings.mxint8.encode(new Float32Array(LENGTH).fill(value), grid, seeded('rounding'));
  return updateOf(agent.id, grid, { payload, round: BigInt(round), baseVersion: BigInt(version) });
}

/** A round in which each agent's update moves every weight as far. */
async function trained(agents: readonly TestAgent[], round: number, version: number, value: number) {
  const updates = [];
  for (const agent of agents) {
    const { grid } = await invitation(agent, round);
    const update = flat(agent, gridFromWire(grid!), { round, version, value });
    expect(await agent.submit(update)).toMatchObject({ accepted: true });
    updates.push(update);
  }
  return updates;
}

const ids = ['a', 'b', 'c'];
const ready = (service: CoordinatorService, names: readonly string[], hello: object = {}): TestAgent[] => {
  const work = ['train', 'evaluate', 'statistics'];
  const agents = names.map((id) => new TestAgent(service, id, { work, ...hello }));
  for (const agent of agents) agent.ready();
  return agents;
};
const rejected = { outcome: { case: 'rejected', value: Reason.GATE } };

describe('the norm of a step against those before it', () => {
  const gates = { norm: { factor: 3, rounds: 5 } };

  test('one that is far longer is refused, with a reason, and the task goes on from the champion', async () => {
    const dataDir = temporaryFolder('gates');
    const service = await opened(dataDir);
    await startTraining(service, { gates, rounds: 0 });
    const agents = ready(service, ids);
    // Nothing is refused before there is something to hold it against.
    for (const [i, value] of [0.02, 0.01, 0.01].entries()) await trained(agents, i + 1, i + 1, value);
    const champion = await newest(service);
    expect(champion.version).toBe(4n);
    await trained(agents, 4, 4, 0.5);
    for (const agent of agents) await expect.poll(() => agent.receipts().at(-1)).toMatchObject(rejected);
    const [refused] = await candidates(service);
    expect(refused).toMatchObject({
      number: 1n,
      task: 'train',
      round: 4n,
      baseVersion: 4n,
      state: CandidateState.REFUSED,
      kept: true,
    });
    expect(refused?.why).toBe('the step is 3.122 long, more than 3 times the 0.06251 that the last 3 versions took');
    // What it was can be looked at.
    expect((await weightsOf(service, refused!))[0]! - (await weightsOf(service, champion))[0]!).toBeCloseTo(0.5, 5);
    const status = await service.getTask('train');
    expect(status).toMatchObject({ version: 4n, candidatesRefused: 1n, updatesAccepted: 9n, updatesRejected: 3n });
    expect(status.rejectedByReason).toEqual({ gate: 3n });
    await trained(agents, 5, 4, 0.02);
    await expect.poll(async () => (await newest(service)).version).toBe(5n);
    await service.close();
    const store = SqliteStore.open(dataDir);
    open.push(store);
    const { damages, models } = await verifyStore(store, openSigner(dataDir).publicKey);
    expect({ damages, models }).toMatchObject({ damages: [], models: [{ versions: 5, updates: 12 }] });
  });

  test('without rounds a refused buffer is followed by the next, and what was usual outlives a restart', async () => {
    const dataDir = temporaryFolder('gates');
    const first = await opened(dataDir);
    const strategy = { name: 'fedBuff', bufferSize: 1 };
    await startTraining(first, { gates, strategy, cohort: { min: 1, max: 5 }, rounds: 0 });
    const deliver = async (agent: TestAgent, round: number, version: number, value: number) => {
      const { grid, invitation: token } = await invitation(agent, round);
      const { header, payload } = flat(agent, gridFromWire(grid!), { round, version, value });
      const update = updateOf(agent.id, gridFromWire(grid!), { ...header, payload, invitation: token });
      expect(await agent.submit(update)).toMatchObject({ accepted: true });
    };
    const [a] = ready(first, ['a']) as [TestAgent];
    for (const round of [1, 2, 3]) await deliver(a, round, round, 0.01);
    await first.close();
    const service = await opened(dataDir);
    const [b] = ready(service, ['b']) as [TestAgent];
    await deliver(b, 4, 4, 1);
    await expect.poll(() => b.receipts().at(-1)).toMatchObject(rejected);
    expect((await newest(service)).version).toBe(4n);
    await deliver(b, 5, 4, 0.01);
    await expect.poll(async () => (await newest(service)).version).toBe(5n);
  });
});

describe('a metric, measured by agents before what a round made is a version', () => {
  const plan = { ...config.plan, evaluation: { metrics: ['accuracy'], holdOut: 0.2 } };
  const gates = { metric: { name: 'accuracy', margin: 0.05, cohort: { min: 2, max: 3 }, evaluateMs: 30_000 } };

  /** Each of some agents reports how many of 100 examples the champion and the candidate get right. */
  async function judged(agents: readonly TestAgent[], round: number, right: readonly [number, number]) {
    for (const agent of agents) {
      const assignment = await invitation(agent, round);
      expect(assignment.work).toBe('evaluate');
      const report = reportOf(agent.id, assignment, accuracyReport(assignment, 100, right));
      expect(await agent.submit(report)).toMatchObject({ accepted: true });
    }
  }

  test('one that is not worse than the margin becomes a version, and says what was found of it', async () => {
    const service = await opened();
    await startTraining(service, { plan, gates, rounds: 0 });
    const agents = ready(service, ids);
    await trained(agents, 1, 1, 0.01);
    const { candidate: signed } = await invitation(agents[0]!, 2);
    expect(fromBinary(CandidateSchema, signed!.candidate)).toMatchObject({
      number: 1n,
      baseVersion: 1n,
      state: CandidateState.PENDING,
    });
    expect(await service.getTask('train')).toMatchObject({ version: 1n, candidate: 1n, updatesMax: 3 });
    // Nobody has an end of an update before it is decided.
    for (const agent of agents) expect(agent.receipts()).toEqual([]);
    await judged(agents, 2, [60, 56]);
    await expect.poll(async () => (await newest(service)).version).toBe(2n);
    const manifest = await newest(service);
    expect(manifest).toMatchObject({ round: 1n, totalWeight: 30n, candidate: 1n });
    expect(manifest.evaluation).toMatchObject({ reports: 3, examples: 300n, metrics: { accuracy: 0.56 } });
    for (const agent of agents) {
      expect(agent.receipts()).toMatchObject([
        { round: 1n, outcome: { case: 'committedVersion', value: 2n } },
        { round: 2n, outcome: { case: 'countedRound', value: 2n } },
      ]);
    }
    expect(await candidates(service)).toMatchObject([
      {
        number: 1n,
        state: CandidateState.PUBLISHED,
        version: 2n,
        why: 'accuracy 0.56 against 0.6 of the version before',
        kept: false,
      },
    ]);
    // The next version does not say that it was measured.
    await trained(agents, 3, 2, 0.01);
    await judged(agents, 4, [56, 56]);
    await expect.poll(async () => (await newest(service)).version).toBe(3n);
    expect(await newest(service)).toMatchObject({ candidate: 2n, evaluation: { metrics: { accuracy: 0.56 } } });
  });

  test('one that is worse is refused: it is listed with what was found, and its updates end', async () => {
    const dataDir = temporaryFolder('gates');
    const service = await opened(dataDir);
    await startTraining(service, { plan, gates, rounds: 0 });
    const agents = ready(service, ids);
    await trained(agents, 1, 1, 0.01);
    await judged(agents, 2, [60, 54]);
    for (const agent of agents) {
      await expect.poll(() => agent.receipts().length).toBe(2);
      expect(agent.receipts()).toMatchObject([rejected, { outcome: { case: 'countedRound' } }]);
    }
    expect((await newest(service)).version).toBe(1n);
    const [refused] = await candidates(service);
    expect(refused).toMatchObject({
      state: CandidateState.REFUSED,
      why: 'accuracy 0.54 is worse than 0.6 by more than 0.05, on 300 examples',
    });
    expect(refused?.baseEvaluation?.metrics).toEqual({ accuracy: 0.6 });
    // The same update again is known to have ended.
    const [update] = [
      flat(agents[0]!, gridFromWire(agents[0]!.assignments()[0]!.grid!), { round: 1, version: 1, value: 0.01 }),
    ];
    expect((await agents[0]!.submit(update)).accepted).toBe(false);
    await trained(agents, 3, 1, 0.02);
    await judged(agents, 4, [60, 61]);
    await expect.poll(async () => (await newest(service)).version).toBe(2n);
    await service.close();
    const store = SqliteStore.open(dataDir);
    open.push(store);
    expect((await verifyStore(store, openSigner(dataDir).publicKey)).damages).toEqual([]);
  });

  test('a crash between candidate and verdict: the evaluation goes on, updates are held and not asked for, and one version comes of it', async () => {
    const dataDir = temporaryFolder('gates');
    const service = await opened(dataDir);
    await startTraining(service, { plan, gates, rounds: 0 });
    const agents = ready(service, ids);
    const updates = await trained(agents, 1, 1, 0.01);
    await judged(agents.slice(0, 1), 2, [60, 60]);
    await service.close();
    const again = await opened(dataDir);
    expect(await again.getTask('train')).toMatchObject({ phase: 'Collecting', candidate: 1n, version: 1n });
    // They wait for a receipt, so they do not say that they are free.
    const later = ids.map((id) => new TestAgent(again, id, { work: ['train', 'evaluate'] }));
    for (const [i, agent] of later.entries()) {
      agent.say({ message: { case: 'offer', value: { updates: [offerOf(updates[i]!.header)] } } });
      expect(await agent.submit(updates[i]!)).toMatchObject({ accepted: true });
    }
    for (const agent of later) agent.ready();
    await judged(later, 2, [60, 61]);
    await expect.poll(async () => (await newest(again)).version).toBe(2n);
    for (const agent of later) {
      expect(agent.messages.some(({ message }) => message.case === 'wanted')).toBe(false);
      expect(agent.receipts()[0]).toMatchObject({ outcome: { case: 'committedVersion', value: 2n } });
    }
    expect(await newest(again)).toMatchObject({ totalWeight: 30n, candidate: 1n });
  });

  test('a crash before anybody was asked: whoever offers an update that waits for the verdict is asked to judge', async () => {
    const dataDir = temporaryFolder('gates');
    const service = await opened(dataDir);
    await startTraining(service, { plan, gates, rounds: 0 });
    // They can train and nothing else: the candidate waits.
    const agents = ready(service, ids, { work: ['train'] });
    const updates = await trained(agents, 1, 1, 0.01);
    const waiting = 'candidate 1 waits for agents: 0 of at least 2 are ready';
    await expect.poll(async () => (await service.getTask('train')).waiting).toBe(waiting);
    await service.close();
    const again = await opened(dataDir);
    const later = ids.map((id) => new TestAgent(again, id, { work: ['train', 'evaluate'] }));
    for (const [i, agent] of later.entries())
      agent.say({ message: { case: 'offer', value: { updates: [offerOf(updates[i]!.header)] } } });
    await judged(later, 2, [60, 60]);
    await expect.poll(async () => (await newest(again)).version).toBe(2n);
  });

  test('evaluators that are named are asked and nobody else, whatever others say of themselves', async () => {
    const service = await opened();
    const named = { ...gates, metric: { name: 'accuracy', margin: 0 } };
    await startTraining(service, {
      gates: named,
      evaluators: ['judge'],
      rounds: 0,
      where: { labels: { site: 'north' } },
    });
    const agents = ready(service, ids, { labels: { site: 'north' } });
    const [impostor] = ready(service, ['mallory'], { evaluator: true });
    await trained(agents, 1, 1, 0.01);
    await expect
      .poll(async () => (await service.getTask('train')).waiting)
      .toBe('candidate 1 waits for evaluators (judge): 0 of at least 1 are ready');
    const [judge] = ready(service, ['judge'], { evaluator: true }) as [TestAgent];
    await judged([judge], 2, [60, 61]);
    await expect.poll(async () => (await newest(service)).version).toBe(2n);
    expect([...agents, impostor!].some((agent) => agent.assignments().some(({ work }) => work === 'evaluate'))).toBe(
      false,
    );
    // An evaluator is in no cohort.
    expect(judge.assignments().every(({ work }) => work === 'evaluate')).toBe(true);
  });

  test('a report that is none is refused, and the verdict does not hear of it', async () => {
    const service = await opened();
    await startTraining(service, {
      plan,
      gates: { metric: { ...gates.metric, cohort: { min: 2, max: 2 } } },
      rounds: 0,
    });
    const agents = ready(service, ids);
    await trained(agents, 1, 1, 0.01);
    const isInvited = (agent: TestAgent): boolean => agent.assignments().some(({ round }) => round === 2n);
    await expect.poll(() => agents.filter(isInvited).length).toBe(2);
    const [one, other] = agents.filter(isInvited) as [TestAgent, TestAgent];
    const assignment = await invitation(one, 2);
    const huge = accuracyReport(assignment, 100, [60, 60]).fill(1e9);
    const { accepted, receipt } = await one.submit(
      reportOf(one.id, assignment, huge, (values) => new Uint8Array(values.buffer)),
    );
    expect(accepted).toBe(false);
    expect(receipt).toBeDefined();
    const update = flat(one, gridFromWire(assignment.grid!), { round: 2, version: 1, value: 0 });
    expect((await one.submit(update)).accepted).toBe(false);
    // It delivers nothing more, and the other alone is too few.
    await judged([other], 2, [60, 60]);
    expect((await service.getTask('train')).candidate).toBe(1n);
  });

  test('a rollback drops what waits for a verdict: its updates end as stale', async () => {
    const service = await opened();
    await startTraining(service, { plan, gates, rounds: 0 });
    const agents = ready(service, ids);
    await trained(agents, 1, 1, 0.01);
    await judged(agents, 2, [60, 61]);
    await trained(agents, 3, 2, 0.01);
    await invitation(agents[0]!, 4);
    await service.rollbackModel('flowers', 1);
    for (const agent of agents)
      await expect
        .poll(() => agent.receipts().at(-1))
        .toMatchObject({ round: 3n, outcome: { case: 'rejected', value: Reason.STALE_ROUND } });
    expect((await candidates(service)).at(-1)).toMatchObject({
      state: CandidateState.DROPPED,
      why: 'the model went on from version 3',
    });
    expect(await newest(service)).toMatchObject({ version: 3n, restoredVersion: 1n, candidate: 0n });
    for (const agent of agents) agent.ready();
    await trained(agents, 5, 3, 0.01);
  });

  test('another task of the model does not begin before the verdict', async () => {
    const service = await opened();
    await startTraining(service, { plan, gates, rounds: 0 });
    const agents = ready(service, ids);
    await trained(agents, 1, 1, 0.01);
    await service.createTask('other', JSON.stringify(config));
    await service.pauseTask('train');
    await expect(service.startTask('other')).rejects.toThrow(/is paused, and its last round is still open/);
    await judged(agents, 2, [60, 60]);
    await expect.poll(async () => (await newest(service)).version).toBe(2n);
    await service.startTask('other');
  });
});

test('a step that is no number is refused whether a gate was asked for or not', async () => {
  const service = await opened();
  // The server's step is beyond what float32 holds.
  await startTraining(service, { strategy: { name: 'fedAvg', serverLearningRate: 1e39 }, rounds: 0 });
  const agents = ready(service, ids);
  await trained(agents, 1, 1, 0.5);
  for (const agent of agents) await expect.poll(() => agent.receipts().at(-1)).toMatchObject(rejected);
  expect((await candidates(service))[0]?.why).toBe('weight 0 of 39 would be Infinity');
  expect((await newest(service)).version).toBe(1n);
});

test.each<[object, RegExp]>([
  [{ gates: { size: 5 } }, /gates.size is not known: the keys are norm, metric/],
  [{ gates: { norm: { factor: 0.5 } } }, /gates.norm.factor must be a number from 1 on/],
  [{ gates: { norm: { factor: 2, rounds: 2 } } }, /gates.norm.rounds must be a whole number from 3 to 100/],
  [{ gates: { metric: { margin: 1 } } }, /gates.metric.name must be a metric/],
  [
    { gates: { metric: { name: 'beauty' } }, evaluators: ['j'] },
    /evaluation.metrics must be a list of what goes with cross-entropy/,
  ],
  [{ gates: { metric: { name: 'accuracy' } } }, /set some aside with plan.evaluation/],
  [{ gates: { metric: { name: 'accuracy' } }, evaluators: [] }, /evaluators must be a list of 1 to 100 names/],
  [{ gates: { metric: { name: 'accuracy' } }, evaluators: ['j'], retainUpdates: 2 }, /leave one of the two out/],
  [
    { gates: { metric: { name: 'accuracy' } }, evaluators: ['j'], strategy: { name: 'fedBuff', bufferSize: 3 } },
    /without rounds nothing waits/,
  ],
])('a task %j is refused by its key', async (wrong, why) => {
  const service = await opened();
  await expect(startTraining(service, wrong)).rejects.toThrow(why);
});

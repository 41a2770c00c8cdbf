import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { create, fromBinary } from '@bufbuild/protobuf';
import { ExactSum, formatOf, logistic, seeded, writeModel, type GridSpec, type UpdateFormat } from '@commonweight/core';
import {
  ChannelSchema,
  ClientReportSchema,
  ContributionListSchema,
  gridFromWire,
  ManifestSchema,
  Reason,
  ReceiptSchema,
  ResultSchema,
  UpdateHeaderSchema,
  type SignedResult,
  type UpdateHeader,
} from '@commonweight/proto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { PostgresServer } from '../../../test/support/postgres.ts';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { essenceOf, newestOf, spread as spreadIds } from '../../../test/support/replicas.ts';
import { accuracyReport, reportOf, statisticsReport } from '../../../test/support/test-reports.ts';
import {
  compressed,
  config,
  invited,
  LENGTH,
  offerOf,
  sealed,
  startTraining,
  TestAgent,
  TOP_K,
  updateOf,
} from '../../../test/support/training.ts';
import { GUARD } from '../channels/guard.ts';
import { openCoordinator, type CoordinatorOptions } from '../coordinator.ts';
import { auditVersion } from '../driver/audit.ts';
import { serveGrpc } from '../edges/grpc/server.ts';
import { packedPart } from '../relay/packed-part.ts';
import type { CoordinatorService } from '../service.ts';
import { parsePostgresUrl } from '../store/postgres-address.ts';
import { PostgresReads } from '../store/postgres-store.ts';

let server: PostgresServer;
beforeAll(async () => {
  server = await PostgresServer.start();
});
afterAll(() => server.close());

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

let lastDatabase = '';

/** Coordinators of one database, the first of which leads. */
async function replicas(count: number, options: Partial<CoordinatorOptions> = {}): Promise<CoordinatorService[]> {
  lastDatabase = await server.database();
  const postgres = server.url(lastDatabase);
  const folder = temporaryFolder('replicas');
  const services: CoordinatorService[] = [];
  for (let i = 0; i < count; i++) {
    const dataDir = join(folder, String(i));
    mkdirSync(dataDir);
    if (i > 0) copyFileSync(join(folder, '0', 'signing-key.pem'), join(dataDir, 'signing-key.pem'));
    const onFatal = (error: Error): void => void fatal.push(error);
    const service = await openCoordinator({ dataDir, postgres, onFatal, ...options });
    open.push(service);
    const edge = await serveGrpc(service, { host: '127.0.0.1', port: 0 });
    open.push(edge);
    await service.advertise(`127.0.0.1:${edge.port}`);
    services.push(service);
  }
  return services;
}

const fatal: Error[] = [];
afterEach(() => expect(fatal.splice(0)).toEqual([]));

const versionOf = async (service: CoordinatorService): Promise<number> => Number((await newestOf(service)).version);

const IDS = ['a', 'b', 'c', 'd', 'e', 'f'];

const spread = (services: readonly CoordinatorService[], changes: object = {}, ids: readonly string[] = IDS) =>
  spreadIds(services, changes, ids);

const metricsOf = (id: string) => ({ loss: seeded(id).uniform(), accuracy: seeded(`${id} again`).uniform() });

test('a part of which another replica has an update is claimed by nobody, and counts without that one', async () => {
  const services = await replicas(2);
  const { agents, grid } = await spread(services);
  const updates = agents.map(({ id }) => updateOf(id, grid));
  expect(await agents[1]!.submit(updates[1]!)).toMatchObject({ accepted: true });
  const part = async (of: typeof updates) => {
    const sum = new ExactSum(LENGTH, grid);
    for (const { header, payload } of of) expect(sum.add('mxint8', payload, Number(header.weight))).toBeUndefined();
    const {
      header,
      updates: headers,
      sum: packed,
    } = await packedPart(
      of.map((one) => one.header),
      sum.toBytes(),
    );
    return services[0]!.submitPart(header, { updates: headers, packed });
  };
  expect(await part(updates)).toMatchObject({ accepted: false, refused: [{ held: true }] });
  expect(await part(updates.filter((_, i) => i !== 1))).toMatchObject({ accepted: true, refused: [] });
  await expect.poll(() => versionOf(services[0]!), { timeout: 60_000 }).toBe(2);
  expect((await newestOf(services[0]!)).totalWeight).toBe(BigInt(10 * updates.length));
});

describe('one round by several coordinators', () => {
  test.each([
    ['the mean', {}],
    ['a rule that sees each update', { strategy: { name: 'median' } }],
    ['a server optimizer', { strategy: { name: 'fedAdam' } }],
    ['without rounds', { strategy: { name: 'fedBuff', bufferSize: 6 } }],
    ['a rule without rounds', { strategy: { name: 'median' }, asynchronous: { bufferSize: 6 } }],
    ['the largest values alone', { encoding: 'mxint4', topK: TOP_K }],
    ['a rule that sees the largest values alone', { strategy: { name: 'trimmedMean' }, topK: TOP_K }],
    ['compressed payloads', { strategy: { name: 'median' }, retainUpdates: 3 }, true],
    ['compressed payloads of a rule alone', { strategy: { name: 'median' } }, true],
    ['versions that are steps', { downlink: 'mxint4' }],
    ['turned values', { encoding: 'mxint4', rotate: true }],
    [
      'turned values, without rounds',
      { strategy: { name: 'fedBuff', bufferSize: 6 }, encoding: 'mxint4', rotate: true },
    ],
    ['the largest values alone, without rounds', { strategy: { name: 'fedBuff', bufferSize: 6 }, topK: TOP_K }],
  ] as [string, object, boolean?][])('%s: the same bytes as by one', async (_, changes, isCompressed = false) => {
    const format = formatOf({ encoding: 'mxint8', compression: 'none', ...config, ...changes });
    const published = new Set<string>();
    for (const count of [1, 2, 3]) {
      const services = await replicas(count);
      const { agents, grid } = await spread(services, changes);
      const order = count === 2 ? agents.toReversed() : agents;
      for (const agent of order) {
        const { invitation } = agent.assignments()[0]!;
        const counted = { metrics: metricsOf(agent.id), weight: 7n, invitation };
        const update = same(counted, agent.id, grid, format);
        expect(await agent.submit(isCompressed ? squeezed(update) : update)).toMatchObject({ accepted: true });
      }
      await expect.poll(() => versionOf(services.at(-1)!)).toBe(2);
      published.add(await essenceOf(services[0]!));
      for (const agent of agents) {
        await expect
          .poll(() => agent.receipts())
          .toMatchObject([{ round: 1n, outcome: { case: 'committedVersion', value: 2n } }]);
        await expect.poll(() => agent.assignments().length).toBe(2);
      }
    }
    expect(published.size).toBe(1);
  });
});

/** With a payload that compression makes smaller: the same for all values. */
function squeezed({ header }: ReturnType<typeof updateOf>): ReturnType<typeof updateOf> {
  const payload = new Uint8Array(41).fill(header.agentId.charCodeAt(0) - 90).fill(122, 0, 2);
  return compressed({ header, payload });
}

/** With the payload that depends on the agent alone: it is drawn anew where the update is to have something changed. */
function same(
  changes: Partial<Pick<UpdateHeader, 'invitation' | 'metrics' | 'weight'>>,
  id: string,
  grid: GridSpec,
  format?: UpdateFormat,
): ReturnType<typeof updateOf> {
  const plain = updateOf(id, grid, {}, format);
  return { header: sealed({ ...plain.header, ...changes }), payload: plain.payload };
}

test('without rounds: agents of any replica are invited as they come, and a stale update counts the same wherever it comes', async () => {
  const digests = new Set<string>();
  for (const count of [1, 2, 3]) {
    const services = await replicas(count);
    const strategy = { name: 'fedBuff', bufferSize: 2, stalenessMax: 2 };
    const { agents, grid } = await spread(services, { strategy, cohort: { min: 1, max: 10 }, rounds: 0 }, [
      'a',
      'b',
      'c',
    ]);
    const [a, b, c] = agents as [TestAgent, TestAgent, TestAgent];
    const update = (agent: TestAgent, version: bigint) => {
      const { id } = agent;
      const { payload } = updateOf(`${id} on ${version}`, grid);
      const { invitation } = agent.assignments().find(({ round }) => round === version)!;
      return updateOf(id, grid, { payload, round: version, baseVersion: version, invitation });
    };
    for (const agent of [a, b]) expect(await agent.submit(update(agent, 1n))).toMatchObject({ accepted: true });
    await expect.poll(() => versionOf(services.at(-1)!)).toBe(2);
    await expect.poll(() => a.assignments().length).toBe(2);
    expect(await a.submit(update(a, 2n))).toMatchObject({ accepted: true });
    // On the version before.
    expect(await c.submit(update(c, 1n))).toMatchObject({ accepted: true });
    await expect.poll(() => versionOf(services.at(-1)!)).toBe(3);
    await expect
      .poll(() => c.receipts().map(({ outcome }) => outcome))
      .toEqual([{ case: 'committedVersion', value: 3n }]);
    digests.add((JSON.parse(await essenceOf(services[0]!)) as { digests: string[] }).digests.join());
  }
  expect(digests.size).toBe(1);
});

test.each([
  ['a mean', {}],
  ['a rule that sees each update', { strategy: { name: 'median' } }],
])('updates that came to any replica are retained, and %s of them is made again bit for bit', async (_, changes) => {
  const services = await replicas(3);
  const { agents, grid } = await spread(services, { ...changes, retainUpdates: 2 });
  for (const agent of agents) {
    const update = updateOf(agent.id, grid, { metrics: metricsOf(agent.id), weight: 7n });
    expect(await agent.submit(update)).toMatchObject({ accepted: true });
  }
  await expect.poll(() => versionOf(services.at(-1)!)).toBe(2);
  const { publicKey } = services[0]!;
  const reads = await PostgresReads.open(parsePostgresUrl(server.url(lastDatabase)), publicKey);
  open.push(reads);
  const audit = await auditVersion(reads, publicKey, { model: 'flowers', version: 0 });
  expect(audit).toMatchObject({ verdict: 'same', version: 2, updates: 6 });
  const agentsOf = (await reads.retained('flowers', 2)).map(
    ({ header }) => fromBinary(UpdateHeaderSchema, header).agentId,
  );
  expect(agentsOf.sort()).toEqual(IDS);
});

test('a pin that a follower is asked for holds, and followers say what the leader collected', async () => {
  const services = await replicas(2, { keepVersions: { each: 2, models: {} } });
  const [leader, follower] = services;
  const { agents } = await spread(services, { rounds: 3 }, ['a', 'b']);
  expect(await follower!.pinVersion('flowers', 1, true)).toBe(1);
  for (const round of [1, 2, 3]) {
    const grid = await invited(agents, round);
    for (const agent of agents) {
      const update = updateOf(agent.id, grid, { round: BigInt(round), baseVersion: BigInt(round) });
      expect(await agent.submit(update)).toMatchObject({ accepted: true });
    }
    await expect.poll(() => versionOf(follower!)).toBe(round + 1);
  }
  const kept = { collected: [2], pinned: [1], retained: [] };
  await expect.poll(() => follower!.listKept('flowers')).toEqual(kept);
  const { manifest } = await follower!.getModel('flowers', 2);
  const { digest } = fromBinary(ManifestSchema, manifest).artifacts.find(({ role }) => role === 'weights')!;
  await expect(follower!.readBlob(digest, 0, 10)).rejects.toThrow(/^blob \w{64} was collected/);
  await expect(follower!.pinVersion('flowers', 2, true)).rejects.toMatchObject({ code: 'invalid' });
  expect(await leader!.listKept('flowers')).toEqual(kept);
});

test.each([
  ['in rounds', {}],
  ['without rounds', { strategy: { name: 'fedBuff', bufferSize: 2, stalenessMax: 5 } }],
])(
  '%s: a rollback that a follower is asked for holds everywhere, and what was under way counts nowhere',
  async (_, changes) => {
    const services = await replicas(2);
    const ids = ['a', 'b'];
    const { agents, grid } = await spread(services, { rounds: 0, ...changes }, ids);
    const submit = (agent: TestAgent, round: bigint, baseVersion: bigint) => {
      const { invitation } = agent.assignments().at(-1)!;
      return agent.submit(updateOf(agent.id, grid, { round, baseVersion, invitation }));
    };
    for (const agent of agents) await submit(agent, 1n, 1n);
    for (const agent of agents) await expect.poll(() => agent.assignments().length).toBe(2);
    // One that the follower took for the round that is open.
    expect(await submit(agents[1]!, 2n, 2n)).toMatchObject({ accepted: true });

    const { release, task } = await services[1]!.rollbackModel('flowers', 1);

    expect(task).toBe('train');
    expect(fromBinary(ManifestSchema, release.manifest)).toMatchObject({ version: 3n, restoredVersion: 1n });
    for (const agent of agents) agent.ready();
    // An agent whose invitation may have been lost is told twice.
    const baseOf = (agent: TestAgent) => fromBinary(ManifestSchema, agent.assignments().at(-1)!.base!.manifest).version;
    for (const agent of agents) await expect.poll(() => baseOf(agent)).toBe(3n);
    for (const agent of agents) {
      const { round } = agent.assignments().at(-1)!;
      expect(await submit(agent, round, 3n)).toMatchObject({ accepted: true });
    }
    await expect.poll(() => versionOf(services[1]!)).toBe(4);
    const { contributionsDigest } = await newestOf(services[1]!);
    const { data } = await services[1]!.readBlob(contributionsDigest, 0, 10_000);
    expect(fromBinary(ContributionListSchema, data).accepted).toHaveLength(2);
  },
);

test('an update that comes to two replicas counts once, and both say that it was taken', async () => {
  const services = await replicas(2);
  const { agents, grid } = await spread(services, {}, ['a', 'b', 'c']);
  const update = updateOf('b', grid);
  expect(await agents[1]!.submit(update)).toMatchObject({ accepted: true });
  const elsewhere = new TestAgent(services[0]!, 'b');
  elsewhere.say({ message: { case: 'offer', value: { updates: [offerOf(update.header)] } } });
  expect(await elsewhere.submit(update)).toMatchObject({ accepted: true });
  for (const i of [0, 2]) await agents[i]!.submit(updateOf(agents[i]!.id, grid));
  await expect.poll(() => versionOf(services[0]!)).toBe(2);
  expect(await newestOf(services[0]!)).toMatchObject({ totalWeight: 30n });
});

test('what a follower refuses is refused for good, everywhere, and the round does not wait for its agent', async () => {
  const services = await replicas(2);
  const { agents, grid } = await spread(services, { cohort: { min: 1, max: 2 } }, ['a', 'b']);
  const bad = updateOf('b', grid, { weight: 0n });
  const { receipt } = await agents[1]!.submit(bad);
  expect(fromBinary(ReceiptSchema, receipt!.receipt).outcome).toMatchObject({ case: 'rejected' });
  const again = await new TestAgent(services[0]!, 'b').submit({
    ...bad,
    header: sealed({ ...bad.header, weight: 10n }),
  });
  expect(Buffer.from(again.receipt!.receipt)).toEqual(Buffer.from(receipt!.receipt));
  await agents[0]!.submit(updateOf('a', grid));
  await expect.poll(() => versionOf(services[0]!)).toBe(2);
  expect(await newestOf(services[0]!)).toMatchObject({ totalWeight: 10n });
});

test('over-selection: a full round is full everywhere, and what a replica took before it heard of that counts', async () => {
  const services = await replicas(2);
  const cohort = { min: 2, max: 3, overSelection: 2 };
  const { agents, grid } = await spread(services, { cohort, rounds: 3 }, IDS);
  const answers = await Promise.all(
    agents.slice(0, 5).map((agent) => agent.submit(updateOf(agent.id, grid)).catch((error: Error) => error)),
  );
  const taken = answers.filter((answer) => 'accepted' in answer && answer.accepted).length;
  expect(taken).toBeGreaterThanOrEqual(3);
  await expect.poll(() => versionOf(services[1]!), { timeout: 10_000 }).toBe(2);
  const { contributionsDigest } = await newestOf(services[1]!);
  const { data } = await services[1]!.readBlob(contributionsDigest, 0, 10_000);
  expect(fromBinary(ContributionListSchema, data).accepted).toHaveLength(taken);
  // The one that did not deliver is at the follower.
  const surplus = agents[5]!;
  const over = () => surplus.messages.some(({ message }) => message.case === 'roundOver');
  await expect.poll(over, { timeout: 10_000 }).toBe(true);
  const { receipt } = await surplus.submit(updateOf(surplus.id, grid));
  expect(fromBinary(ReceiptSchema, receipt!.receipt).outcome).toEqual({ case: 'rejected', value: Reason.ROUND_FULL });
});

test('an update of an old round is refused by a follower, and its agent hears why', async () => {
  const services = await replicas(2);
  const { agents, grid } = await spread(services, {}, ['a', 'b']);
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
  await expect.poll(() => agents[1]!.assignments().length).toBe(2);
  const late = updateOf('b', grid, { baseVersion: 1n });
  agents[1]!.say({ message: { case: 'offer', value: { updates: [offerOf(late.header)] } } });
  const rejected = { outcome: { case: 'rejected', value: Reason.STALE_ROUND } };
  await expect.poll(() => agents[1]!.receipts().at(-1)).toMatchObject(rejected);
});

test('a follower that ends in order leaves its part, and nobody is asked again', async () => {
  const [leader, follower] = await replicas(2);
  const { agents, grid } = await spread([leader!, follower!], {}, ['a', 'b', 'c', 'd']);
  for (const i of [1, 3]) await agents[i]!.submit(updateOf(agents[i]!.id, grid));
  await follower!.close();
  for (const i of [0, 2]) await agents[i]!.submit(updateOf(agents[i]!.id, grid));
  await expect.poll(() => versionOf(leader!)).toBe(2);
  expect(await newestOf(leader!)).toMatchObject({ totalWeight: 40n });
});

test('a leader that ends in order leaves its part to the follower that leads then', async () => {
  const [leader, follower] = await replicas(2);
  const { agents, grid } = await spread([leader!, follower!], {}, ['a', 'b', 'c', 'd']);
  for (const i of [0, 1, 2]) await agents[i]!.submit(updateOf(agents[i]!.id, grid));
  await leader!.close();
  const last = new TestAgent(follower!, 'd');
  const submitted = async (): Promise<boolean> => {
    try {
      return (await last.submit(updateOf('d', grid))).accepted;
    } catch {
      return false;
    }
  };
  await expect.poll(submitted).toBe(true);
  await expect.poll(() => versionOf(follower!)).toBe(2);
  const manifest = await newestOf(follower!);
  expect(manifest).toMatchObject({ totalWeight: 40n, epoch: 2n });
  const { data } = await follower!.readBlob(manifest.contributionsDigest, 0, 10_000);
  expect(fromBinary(ContributionListSchema, data).accepted).toHaveLength(4);
});

test('a replica that leads after another knows who took part lately', async () => {
  const [leader, follower] = await replicas(2);
  const cohort = { min: 2, max: 2, separation: 3 };
  const { agents, grid } = await spread([leader!, follower!], { cohort, rounds: 0 }, ['a', 'b']);
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
  await expect.poll(() => versionOf(follower!), { timeout: 10_000 }).toBe(2);
  await leader!.close();
  const isLeading = async (): Promise<boolean> =>
    (await follower!.getTask('train').catch(() => undefined)) !== undefined;
  await expect.poll(isLeading, { timeout: 15_000 }).toBe(true);
  const again = ['a', 'b', 'c', 'd'].map((id) => new TestAgent(follower!, id));
  for (const agent of again.slice(0, 2)) agent.ready();
  const waiting = async (): Promise<string> => (await follower!.getTask('train')).waiting;
  await expect.poll(waiting, { timeout: 10_000 }).toContain('2 took part in the last 3 rounds');
  for (const agent of again.slice(2)) agent.ready();
  await expect.poll(() => again.map((agent) => agent.assignments().length), { timeout: 10_000 }).toEqual([0, 0, 1, 1]);
});

test('what agents of a follower have and what holds of them is the leader to choose by', async () => {
  const [leader, follower] = await replicas(2);
  const where = { labels: { site: 'north' }, conditions: ['charging'] };
  await leader!.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
  await leader!.createTask('train', JSON.stringify({ ...config, where, cohort: { min: 2, max: 2 } }));
  await leader!.startTask('train');
  const here = new TestAgent(leader!, 'a', { labels: { site: 'north' }, conditions: ['charging'] });
  const there = new TestAgent(follower!, 'b', { labels: { site: 'north' } });
  const south = new TestAgent(follower!, 'c', { labels: { site: 'south' }, conditions: ['charging'] });
  for (const agent of [here, there, south]) agent.ready();
  const lacks = async () => (await leader!.getTask('train')).agentsUnqualified;
  await expect.poll(lacks, { timeout: 10_000 }).toEqual({ 'label site': 1, 'condition charging': 1 });
  there.say({ message: { case: 'conditions', value: { holding: ['charging'] } } });
  const invitations = () => [here, there, south].map((agent) => agent.assignments().length);
  await expect.poll(invitations, { timeout: 10_000 }).toEqual([1, 1, 0]);
});

describe('what is measured by several coordinators', () => {
  const work = ['train', 'evaluate', 'statistics'];
  const ids = ['a', 'b', 'c', 'd'];

  /** Agents that are spread over the replicas, once all are free. */
  async function free(services: readonly CoordinatorService[]): Promise<TestAgent[]> {
    const agents = ids.map((id, i) => new TestAgent(services[i % services.length]!, id, { work }));
    for (const agent of agents) agent.ready();
    const isReady = async (): Promise<number> => (await services[0]!.listAgents()).filter(({ ready }) => ready).length;
    await expect.poll(isReady, { timeout: 10_000 }).toBe(ids.length);
    return agents;
  }
  const last = async (agent: TestAgent, round: number) => {
    await expect.poll(() => Number(agent.assignments().at(-1)?.round ?? 0), { timeout: 10_000 }).toBe(round);
    return agent.assignments().at(-1)!;
  };

  test('a candidate is judged, and its version made, to the same bytes by one and by three; agents anywhere hear both ends', async () => {
    const digests = new Set<string>();
    for (const count of [1, 3]) {
      const services = await replicas(count);
      const [leader] = services;
      const plan = { ...config.plan, evaluation: { metrics: ['accuracy'], holdOut: 0.2 } };
      const gates = { metric: { name: 'accuracy', margin: 0.1, cohort: { min: 4, max: 4 } } };
      await leader!.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
      await leader!.createTask(
        'train',
        JSON.stringify({ ...config, plan, gates, cohort: { min: 4, max: 4 }, rounds: 0 }),
      );
      const agents = await free(services);
      await leader!.startTask('train');
      for (const [round, right, refused] of [
        [1, 50, false],
        [3, 10, true],
      ] as const) {
        for (const agent of agents) {
          const { grid } = await last(agent, round);
          const update = updateOf(agent.id, gridFromWire(grid!), {
            round: BigInt(round),
            baseVersion: round === 1 ? 1n : 2n,
          });
          const plain = round === 1 ? same({}, agent.id, gridFromWire(grid!)) : update;
          expect(await agent.submit(plain)).toMatchObject({ accepted: true });
        }
        for (const agent of agents) {
          const assignment = await last(agent, round + 1);
          const report = reportOf(agent.id, assignment, accuracyReport(assignment, 100, [50, right]));
          expect(await agent.submit(report)).toMatchObject({ accepted: true });
        }
        for (const agent of agents) {
          const ends = () =>
            agent
              .receipts()
              .filter((one) => one.round === BigInt(round))
              .map(({ outcome }) => outcome);
          const end = refused ? { case: 'rejected', value: Reason.GATE } : { case: 'committedVersion', value: 2n };
          await expect.poll(ends, { timeout: 10_000 }).toEqual([end]);
        }
      }
      const { artifacts, evaluation } = await newestOf(services.at(-1)!);
      expect(evaluation).toMatchObject({ reports: 4, examples: 400n, metrics: { accuracy: 0.5 } });
      digests.add(Buffer.from(artifacts.find(({ role }) => role === 'weights')!.digest).toString('hex'));
      expect(await services.at(-1)!.listCandidates('flowers')).toHaveLength(2);
    }
    expect(digests.size).toBe(1);
  });

  test('a replica that leads after another goes on with what waits for a verdict', async () => {
    const services = await replicas(2);
    const [leader, follower] = services;
    const gates = { metric: { name: 'accuracy', margin: 0.1 } };
    await leader!.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
    const cohort = { min: 4, max: 4 };
    const asked = { ...config, downlink: 'mxint8', gates, evaluators: ['judge'], cohort, rounds: 0 };
    await leader!.createTask('train', JSON.stringify(asked));
    const agents = await free(services);
    await leader!.startTask('train');
    const updates = [];
    for (const agent of agents) {
      const { grid } = await last(agent, 1);
      updates.push(updateOf(agent.id, gridFromWire(grid!)));
      expect(await agent.submit(updates.at(-1)!)).toMatchObject({ accepted: true });
    }
    await expect.poll(async () => (await leader!.getTask('train')).candidate, { timeout: 10_000 }).toBe(1n);
    await leader!.close();
    const isLeading = async (): Promise<boolean> =>
      (await follower!.getTask('train').catch(() => undefined))?.candidate === 1n;
    await expect.poll(isLeading, { timeout: 15_000 }).toBe(true);
    const judge = new TestAgent(follower!, 'judge', { work, evaluator: true });
    judge.ready();
    const assignment = await last(judge, 2);
    await judge.submit(reportOf('judge', assignment, accuracyReport(assignment, 100, [50, 60])));
    await expect.poll(() => versionOf(follower!), { timeout: 10_000 }).toBe(2);
    // With what rounding left, and the step where it is the smaller way.
    const roles = (await newestOf(follower!)).artifacts.map(({ role }) => role);
    expect(roles).toEqual(expect.arrayContaining(['weights', 'remainder']));
    // Each update has its end, whoever asks now.
    const again = await new TestAgent(follower!, 'a').submit(updates[0]!);
    expect(fromBinary(ReceiptSchema, again.receipt!.receipt).outcome).toEqual({ case: 'committedVersion', value: 2n });
  });

  test.each(['evaluate', 'statistics'])('%s of agents at any replica is one result', async (kind) => {
    const records = new Set<string>();
    for (const count of [1, 3]) {
      const services = await replicas(count);
      const [leader] = services;
      await leader!.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
      const asked = kind === 'evaluate' ? { evaluation: { loss: 'cross-entropy', metrics: ['accuracy', 'f1'] } } : {};
      await leader!.createTask(
        'look',
        JSON.stringify({ kind, model: 'flowers', cohort: { min: 4, max: 4 }, ...asked }),
      );
      const agents = await free(services);
      await leader!.startTask('look');
      for (const [i, agent] of agents.entries()) {
        const assignment = await last(agent, 1);
        const inputs = Float32Array.from({ length: 24 }, (_, at) => at * (i + 1));
        const report =
          kind === 'evaluate'
            ? accuracyReport(assignment, 100, [20 * i])
            : statisticsReport(assignment, inputs, [i, 0]);
        expect(await agent.submit(reportOf(agent.id, assignment, report))).toMatchObject({ accepted: true });
      }
      const there = async () => (await services.at(-1)!.listResults({ task: 'look' })).length;
      await expect.poll(there, { timeout: 10_000 }).toBe(1);
      for (const agent of agents)
        await expect
          .poll(() => agent.receipts(), { timeout: 10_000 })
          .toMatchObject([{ outcome: { case: 'countedRound', value: 1n } }]);
      const [{ result }] = (await services.at(-1)!.listResults({ task: 'look' })) as [SignedResult];
      const { evaluation, statisticsDigest } = fromBinary(ResultSchema, result);
      expect(evaluation?.reports).toBe(4);
      records.add(
        JSON.stringify([
          evaluation?.metrics,
          Number(evaluation?.examples),
          Buffer.from(statisticsDigest).toString('hex'),
        ]),
      );
    }
    expect(records.size).toBe(1);
  });
});

test('an administrator may ask any of them', async () => {
  const [leader, follower] = await replicas(2);
  await follower!.importModel('digits', writeModel(logistic({ inputs: 4, outputs: 2, seed: 1 })));
  expect(await leader!.listModels()).toMatchObject([{ model: 'digits', newestVersion: 1n }]);
  await startTraining(follower!);
  expect(await follower!.getTask('train')).toMatchObject({ state: 'running', model: 'flowers' });
  expect(await follower!.listTasks()).toHaveLength(1);
  await expect(follower!.startTask('nothing')).rejects.toThrow(/there is no task "nothing"/);
  await expect(follower!.createTask('x', '{}')).rejects.toMatchObject({ code: 'invalid' });
  new TestAgent(follower!, 'z');
  await expect.poll(async () => (await follower!.listAgents()).map(({ agentId }) => agentId)).toEqual(['z']);
  const told: string[] = [];
  const stop = follower!.watchTask('train', ({ state }) => told.push(state));
  await expect.poll(() => told.includes('running')).toBe(true);
  stop();
});

test("what clients report to a follower is the leader's to know, and outlives it", async () => {
  const [leader, follower] = await replicas(2);
  await leader!.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
  const report = (client: number) =>
    create(ClientReportSchema, {
      model: 'flowers',
      channel: 'latest',
      client: new Uint8Array(16).fill(client),
      id: new Uint8Array(8).fill(client),
      version: 1n,
      uses: [{ version: 1n, predictions: 10n }],
    });
  expect(await follower!.reportUse([report(1)])).toBe(1_000);
  await leader!.reportUse([report(2)]);
  expect(await leader!.getFleets('flowers')).toMatchObject([{ clients: 2, versions: [{ predictions: 20n }] }]);
  expect(await follower!.getFleets('')).toMatchObject([{ clients: 2, versions: [{ predictions: 20n }] }]);
  await leader!.close();
  // Sums were kept; who is there is heard anew.
  const known = async () => (await follower!.getFleets('flowers').catch(() => []))[0]?.versions[0]?.predictions;
  await expect.poll(known, { timeout: 30_000 }).toBe(20n);
});

test('channels are changed by any of them, told by all, and go on with whoever leads', async () => {
  const [leader, follower] = await replicas(2);
  const { agents, grid } = await spread([leader!, follower!], {}, ['a', 'b']);
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
  await expect.poll(() => versionOf(leader!), { timeout: 10_000 }).toBe(2);
  const of = { model: 'flowers', channel: 'stable' };
  const promotion = { cohorts: [], stages: [], everyMs: 0, guard: GUARD, needsReports: false };
  expect(await follower!.promoteVersion(of, { version: 1, ...promotion })).toMatchObject({ version: 1n, revision: 1n });
  const told: bigint[] = [];
  const stop = follower!.watchChannel('flowers', 'stable', ({ record }) => {
    const { revision } = fromBinary(ChannelSchema, record);
    if (told.at(-1) !== revision) told.push(revision);
  });
  await expect.poll(() => told, { timeout: 20_000 }).toEqual([1n]);
  await leader!.promoteVersion(of, { version: 2, ...promotion, stages: [1, 100], everyMs: 60_000 });
  await follower!.holdChannel(of, 'holidays');
  await expect.poll(() => told.at(-1), { timeout: 20_000 }).toBe(3n);
  await leader!.close();
  // The one that leads then has the rollout, and its hold.
  const released = async (): Promise<unknown> => follower!.holdChannel(of, undefined).catch(() => undefined);
  await expect
    .poll(released, { timeout: 30_000 })
    .toMatchObject({ held: false, revision: 4n, rollout: { percent: 1 } });
  expect(await follower!.rollbackChannel(of, undefined)).toMatchObject({ version: 1n, revision: 5n });
  await expect.poll(() => told.at(-1), { timeout: 20_000 }).toBe(5n);
  stop();
});

test('agents of any replica are told which version teaches, and it is the one of the day when the task was made', async () => {
  const services = await replicas(2);
  await services[0]!.importModel('big', writeModel(logistic({ inputs: 12, outputs: 3, seed: 2 })));
  const plan = { ...config.plan, distillation: { temperature: 2, alpha: 0.5 } };
  const { agents } = await spread(services, { plan, teacher: { model: 'big' } }, ['a', 'b']);
  for (const agent of agents) {
    const { teacher, planJson } = agent.assignments()[0]!;
    expect(fromBinary(ManifestSchema, teacher!.manifest)).toMatchObject({ model: 'big', version: 1n });
    expect(JSON.parse(planJson)).toMatchObject({ distillation: { temperature: 2 } });
  }
  const { configJson } = await services[1]!.getTask('train');
  expect(JSON.parse(configJson)).toMatchObject({ teacher: { model: 'big', version: 1 } });
  expect((await services[1]!.listKept('big')).pinned).toEqual([1]);
});

test('apps at a follower hear of new versions', async () => {
  const services = await replicas(2);
  const { agents, grid } = await spread(services, {}, ['a', 'b']);
  const told: bigint[] = [];
  const stop = services[1]!.watchModel('flowers', ({ manifest }) =>
    told.push(fromBinary(ManifestSchema, manifest).version),
  );
  await expect.poll(() => told).toEqual([1n]);
  // A hint comes only for what is watched already.
  await new Promise((resolve) => setTimeout(resolve, 700));
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
  await expect.poll(() => told).toEqual([1n, 2n]);
  stop();
});

import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { encodings, seeded, strategies, strategyFrom, weightsFromBytes, type GridSpec } from '@commonweight/core';
import { ContributionListSchema, ManifestSchema, type Manifest } from '@commonweight/proto';
import { afterEach, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { invited, LENGTH, offerOf, startTraining, TestAgent, updateOf } from '../../../test/support/training.ts';
import { openCoordinator } from '../coordinator.ts';
import type { CoordinatorService } from '../service.ts';

const robustNames = Object.keys(strategies).filter((name) => strategyFrom({ name }).robust !== undefined);
const AGENTS = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j'];
/** What the agents' problems have in common: each minimises ½‖w − goal − its own offset‖². */
const GOAL = Float32Array.from({ length: LENGTH }, (_, i) => (i % 7) / 7);

const open: CoordinatorService[] = [];
afterEach(async () => {
  for (const service of open.splice(0)) await service.close();
});

async function coordinatorIn(dataDir: string): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir });
  open.push(service);
  return service;
}

async function site(changes: object, dataDir = temporaryFolder('robust'), ids = AGENTS) {
  const service = await coordinatorIn(dataDir);
  await startTraining(service, { cohort: { min: ids.length, max: ids.length }, rounds: 100, ...changes });
  const agents = ids.map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  return { service, agents, dataDir, grid: await invited(agents) };
}

const newest = async (service: CoordinatorService): Promise<Manifest> =>
  fromBinary(ManifestSchema, (await service.getModel('flowers', 0)).manifest);

async function weightsOf(service: CoordinatorService): Promise<Float32Array> {
  const { digest } = (await newest(service)).artifacts.find(({ role }) => role === 'weights')!;
  return weightsFromBytes((await service.readBlob(digest, 0, 1_000_000)).data);
}

/** One gradient step of the agent's own problem, or what a hostile one makes of it. */
function trained(agent: TestAgent, grid: GridSpec, { round, hostile }: { round: number; hostile: boolean }) {
  const base = weightsFromBytes(agent.assignments()[round - 1]!.weightsInline);
  const random = seeded(`${agent.id} offset`);
  const step = base.map((weight, i) => 0.5 * (GOAL[i]! + random.normal() * 0.05 - weight));
  const delta = hostile ? step.map((value) => -10 * value) : step;
  const payload = encodings.mxint8.encode(delta, grid, seeded(`${agent.id} ${round}`));
  return updateOf(agent.id, grid, { payload, round: BigInt(round), baseVersion: BigInt(round), weight: 10n });
}

/** The largest distance of a weight to where the honest agents together would have it, after some rounds. */
async function trainUnderAttack(strategy: object, hostile: readonly string[]): Promise<number> {
  const { service, agents, grid } = await site({ strategy });
  for (let round = 1; round <= 5; round++) {
    await invited(agents, round);
    for (const agent of agents) {
      const update = trained(agent, grid, { round, hostile: hostile.includes(agent.id) });
      expect(await agent.submit(update)).toMatchObject({ accepted: true });
    }
  }
  const weights = await weightsOf(service);
  return weights.reduce((worst, weight, i) => Math.max(worst, Math.abs(weight - GOAL[i]!)), 0);
}

describe('two of ten agents turn their updates around and make them ten times as long', () => {
  test('the plain mean learns without them, and is ruined with them', async () => {
    expect(await trainUnderAttack({ name: 'fedAvg' }, [])).toBeLessThan(0.15);
    expect(await trainUnderAttack({ name: 'fedAvg' }, ['c', 'h'])).toBeGreaterThan(1);
  });

  test.each([
    { name: 'median' },
    { name: 'trimmedMean', trim: 0.2 },
    { name: 'krum', attackers: 2 },
    { name: 'multiKrum', attackers: 2 },
    { name: 'bulyan', attackers: 1 },
    { name: 'geometricMedian' },
    { name: 'centredClipping' },
    { name: 'normBound' },
  ])('$name learns all the same', async (strategy) => {
    // Bulyan needs 4f + 3 updates: of ten, one may be hostile.
    const hostile = strategy.name === 'bulyan' ? ['c'] : ['c', 'h'];
    expect(await trainUnderAttack(strategy, hostile)).toBeLessThan(0.25);
  });
});

describe.each(robustNames)('%s', (name) => {
  test('the order of arrival never shows in the published bytes', async () => {
    const seen = new Set<string>();
    for (const order of [AGENTS, seeded(4).shuffle([...AGENTS])]) {
      const { service, agents, grid } = await site({ strategy: { name } });
      for (const id of order) await agents.find((agent) => agent.id === id)!.submit(updateOf(id, grid));
      const { version, contributionsDigest } = await newest(service);
      expect(version).toBe(2n);
      const weights = Buffer.from((await weightsOf(service)).buffer).toString('hex');
      seen.add(`${weights} ${Buffer.from(contributionsDigest).toString('hex')}`);
    }
    expect(seen.size).toBe(1);
  });
});

test('an update that the rule left out is listed with the weight 0 that it counts, and its agent gets its receipt', async () => {
  const { service, agents, grid } = await site({ strategy: { name: 'krum' } });
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid, { weight: 77n }));
  const { contributionsDigest, totalWeight } = await newest(service);
  const { accepted } = fromBinary(
    ContributionListSchema,
    (await service.readBlob(contributionsDigest, 0, 100_000)).data,
  );
  // One update, one vote: 77 examples are only a claim.
  expect(accepted.filter(({ weight }) => weight === 0n)).toHaveLength(AGENTS.length - 1);
  expect(accepted.filter(({ weight }) => weight === 1n)).toHaveLength(1);
  expect(totalWeight).toBe(1n);
  for (const agent of agents) expect(agent.receipts()).toMatchObject([{ outcome: { case: 'committedVersion' } }]);
});

test('updates are kept for the round only, and a restart asks for them again', async () => {
  const undisturbed = await site({ strategy: { name: 'median' } });
  for (const agent of undisturbed.agents) await agent.submit(updateOf(agent.id, undisturbed.grid));

  const { service, agents, grid, dataDir } = await site({ strategy: { name: 'median' } });
  const spool = join(dataDir, 'spool');
  for (const agent of agents.slice(0, 4)) await agent.submit(updateOf(agent.id, grid));
  const [file] = readdirSync(spool);
  expect(statSync(join(spool, file!)).size).toBe(4 * encodings.mxint8.byteLength(LENGTH));
  await service.close();
  expect(readdirSync(spool)).toEqual([]);

  const again = await coordinatorIn(dataDir);
  // Swept on start, whatever was there.
  expect(existsSync(spool)).toBe(false);
  const back = AGENTS.map((id) => new TestAgent(again, id));
  for (const agent of back) {
    const { header } = updateOf(agent.id, grid);
    agent.say({ message: { case: 'offer', value: { updates: [offerOf(header)] } } });
    await expect.poll(() => agent.messages.some(({ message }) => message.case === 'wanted')).toBe(true);
    await agent.submit(updateOf(agent.id, grid));
  }
  expect(await newest(again)).toMatchObject({ version: 2n });
  expect(await weightsOf(again)).toEqual(await weightsOf(undisturbed.service));
  await expect.poll(() => readdirSync(spool)).toEqual([]);
});

test('centred clipping begins each round at the delta of the one before', async () => {
  const { service, agents, grid } = await site({ strategy: { name: 'centredClipping', clipNorm: 0.01 } });
  const memoryOf = async (): Promise<unknown> => (await newest(service)).artifacts.map(({ role }) => role);
  const moved: number[] = [];
  for (let round = 1; round <= 2; round++) {
    await invited(agents, round);
    const before = await weightsOf(service);
    for (const agent of agents) await agent.submit(trained(agent, grid, { round, hostile: false }));
    const after = await weightsOf(service);
    moved.push(Math.hypot(...after.map((weight, i) => weight - before[i]!)));
  }
  // The second step goes about .01 beyond the first: from zero it could be no longer than the norm.
  expect(moved[0]).toBeLessThanOrEqual(0.01 * 1.001);
  expect(moved[1]).toBeGreaterThan(0.015);
  expect(await memoryOf()).toHaveLength(3);
});

test('a cohort that a rule cannot work with is refused by its key when the task is made', async () => {
  const { service } = await site({});
  const make = (strategy: object, cohort: object) =>
    service.createTask('other', JSON.stringify({ ...taskOver, strategy, cohort }));
  const taskOver = {
    model: 'flowers',
    plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 4 },
  };
  await expect(make({ name: 'krum', attackers: 3 }, { min: 8, max: 20 })).rejects.toThrow(
    /cohort.min is 8, and krum with these options needs 9 updates: raise cohort.min/,
  );
  await expect(make({ name: 'bulyan', attackers: 2 }, { min: 10, max: 20 })).rejects.toThrow(/needs 11 updates/);
  await expect(make({ name: 'krum' }, { min: 8, max: 1001 })).rejects.toThrow(/cohort.max is 1001.* at most 1000/);
  await expect(make({ name: 'trimmedMean', trim: 0.1 }, { min: 9, max: 20 })).rejects.toThrow(/needs 10 updates/);
  await expect(make({ name: 'trimmedMean', trim: 0.5 }, { min: 9, max: 20 })).rejects.toThrow(/strategy.trim is 0.5/);
  await expect(make({ name: 'krum', attackers: 1.5 }, { min: 9, max: 20 })).rejects.toThrow(
    /strategy.attackers is 1.5/,
  );
  expect(await make({ name: 'krum', attackers: 3 }, { min: 9, max: 20 })).toMatchObject({ strategy: 'krum' });
});

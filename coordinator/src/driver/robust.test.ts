import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { encodings, seeded, valueEncodings } from '@commonweight/core';
import { ContributionListSchema } from '@commonweight/proto';
import { afterEach, describe, expect, test } from 'vitest';
import {
  closeCoordinators,
  coordinatorIn,
  GOAL,
  newest,
  TEN_AGENTS,
  tenAgents,
  trained,
  weightsOf,
} from '../../../test/support/ten-agents.ts';
import { temporaryFolder } from '../../../test/support/processes.ts';
import {
  config,
  invited,
  LENGTH,
  offerOf,
  startTraining,
  TestAgent,
  updateOf,
} from '../../../test/support/training.ts';
import { openSigner } from '../identity/signer.ts';
import { SqliteStore } from '../store/sqlite-store.ts';
import { auditVersion } from './audit.ts';

afterEach(closeCoordinators);

describe.each(['krum', 'multiKrum', 'bulyan'])('%s', (name) => {
  test('the order of arrival never shows in the published bytes, not even where all scores are equal', async () => {
    const seen = new Set<string>();
    // Half of the agents pull one way and half the other, so that only a fixed order of updates can decide.
    const pull = (id: string): Float32Array => new Float32Array(LENGTH).fill(id < 'f' ? 0.5 : -0.5);
    const rotated = [...TEN_AGENTS.slice(5), ...TEN_AGENTS.slice(0, 5)];
    for (const order of [TEN_AGENTS, rotated, seeded(4).shuffle([...TEN_AGENTS])]) {
      const { service, agents, grid } = await tenAgents({ strategy: { name } });
      for (const id of order) {
        const payload = encodings.mxint8.encode(pull(id), grid, seeded(id));
        const agent = agents.find((one) => one.id === id)!;
        await agent.submit(updateOf(id, grid, { payload }));
      }
      const { version, contributionsDigest } = await newest(service);
      expect(version).toBe(2n);
      const weights = Buffer.from((await weightsOf(service)).buffer).toString('hex');
      seen.add(`${weights} ${Buffer.from(contributionsDigest).toString('hex')}`);
    }
    expect(seen.size).toBe(1);
  });
});

test('an update that the rule left out is listed with the weight 0 that it counts, and its agent gets its receipt', async () => {
  const { service, agents, grid } = await tenAgents({ strategy: { name: 'krum' } });
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid, { weight: 77n }));
  const { contributionsDigest, totalWeight } = await newest(service);
  const { accepted } = fromBinary(
    ContributionListSchema,
    (await service.readBlob(contributionsDigest, 0, 100_000)).data,
  );
  // One update, one vote: 77 examples are only a claim.
  expect(accepted.filter(({ weight }) => weight === 0n)).toHaveLength(TEN_AGENTS.length - 1);
  expect(accepted.filter(({ weight }) => weight === 1n)).toHaveLength(1);
  expect(totalWeight).toBe(1n);
  for (const agent of agents) expect(agent.receipts()).toMatchObject([{ outcome: { case: 'committedVersion' } }]);
});

test('updates are kept for the round only, and a restart asks for them again', async () => {
  const undisturbed = await tenAgents({ strategy: { name: 'median' } });
  for (const agent of undisturbed.agents) await agent.submit(updateOf(agent.id, undisturbed.grid));

  const { service, agents, grid, dataDir } = await tenAgents({ strategy: { name: 'median' } });
  const spool = join(dataDir, 'spool');
  for (const agent of agents.slice(0, 4)) await agent.submit(updateOf(agent.id, grid));
  const [file] = readdirSync(spool);
  expect(statSync(join(spool, file!)).size).toBe(4 * valueEncodings.mxint8.byteLength(LENGTH));
  await service.close();
  expect(readdirSync(spool)).toEqual([]);

  const again = await coordinatorIn(dataDir);
  // Swept on start, whatever was there.
  expect(existsSync(spool)).toBe(false);
  const back = TEN_AGENTS.map((id) => new TestAgent(again, id));
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
  const { service, agents, grid } = await tenAgents({ strategy: { name: 'centredClipping', clipNorm: 0.01 } });
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

test('an evaluator with good data outweighs attackers who are more than half, and its update is listed and not counted', async () => {
  const dataDir = temporaryFolder('ten-agents');
  const service = await coordinatorIn(dataDir);
  const [min, max] = [TEN_AGENTS.length, TEN_AGENTS.length];
  const more = { strategy: { name: 'flTrust' }, evaluators: ['judge'], cohort: { min, max }, retainUpdates: 1 };
  await startTraining(service, more);
  const agents = TEN_AGENTS.map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  expect((await service.getTask('train')).waiting).toBe('waiting for an evaluator: none of judge is ready');
  const judge = new TestAgent(service, 'judge', { evaluator: true });
  judge.ready();
  const grid = await invited([...agents, judge]);
  const distance = async (): Promise<number> => Math.hypot(...(await weightsOf(service)).map((w, i) => w - GOAL[i]!));
  const before = await distance();
  const hostile = TEN_AGENTS.slice(0, 6);
  const updates = agents.map((agent) => trained(agent, grid, { round: 1, hostile: hostile.includes(agent.id) }));
  for (const [i, agent] of agents.entries()) await agent.submit(updates[i]!);
  expect(await newest(service)).toMatchObject({ version: 1n });
  expect((await service.getTask('train')).waiting).toBe('waiting for the evaluator judge: judge is training');
  await judge.submit(trained(judge, grid, { round: 1, hostile: false }));
  const { contributionsDigest, totalWeight } = await newest(service);
  expect(totalWeight).toBe(4n);
  expect(await distance()).toBeLessThan(0.5 * before);
  const { data } = await service.readBlob(contributionsDigest, 0, 100_000);
  const { accepted } = fromBinary(ContributionListSchema, data);
  const weightOf = new Map(accepted.map(({ updateId, weight }) => [Buffer.from(updateId).toString('hex'), weight]));
  expect(accepted).toHaveLength(11);
  for (const { header } of updates)
    expect(weightOf.get(Buffer.from(header.updateId).toString('hex'))).toBe(hostile.includes(header.agentId) ? 0n : 1n);
  await service.close();
  const store = SqliteStore.open(dataDir);
  const audit = await auditVersion(store, openSigner(dataDir).publicKey, { model: 'flowers', version: 2 });
  await store.close();
  expect(audit).toMatchObject({ verdict: 'same', updates: 11, totalWeight: 4 });
});

test('who is to judge must be named, and be there in each round', async () => {
  const { service } = await tenAgents({});
  const make = (more: object) => service.createTask('other', JSON.stringify({ ...config, ...more }));
  const strategy = { name: 'flTrust' };
  await expect(make({ strategy })).rejects.toThrow(/flTrust judges updates by that of an evaluator.*--evaluator/);
  const asynchronous = { bufferSize: 5 };
  await expect(make({ strategy, evaluators: ['judge'], asynchronous })).rejects.toThrow(/without rounds there is none/);
});

test('a cohort that a rule cannot work with is refused by its key when the task is made', async () => {
  const { service } = await tenAgents({});
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

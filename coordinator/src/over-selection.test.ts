import { fromBinary } from '@bufbuild/protobuf';
import { ContributionListSchema, ManifestSchema, Reason, ReceiptSchema, type SignedReceipt } from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../test/support/processes.ts';
import { invited, offerOf, startTraining, TestAgent, updateOf } from '../../test/support/training.ts';
import { openCoordinator } from './coordinator.ts';
import type { CoordinatorService } from './service.ts';

const IDS = ['a', 'b', 'c', 'd', 'e'];
/** Three updates close a round of five agents. */
const cohort = { min: 2, max: 3, overSelection: 1.6 };

const open: CoordinatorService[] = [];
afterEach(async () => {
  for (const service of open.splice(0)) await service.close();
});

async function opened(dataDir = temporaryFolder('over-selection')): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir });
  open.push(service);
  return service;
}

async function five(service: CoordinatorService): Promise<TestAgent[]> {
  const agents = IDS.map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  await invited(agents);
  return agents;
}

const outcomeOf = (receipt: SignedReceipt | undefined) => fromBinary(ReceiptSchema, receipt!.receipt).outcome;
const over = (agent: TestAgent) =>
  agent.messages.flatMap(({ message }) => (message.case === 'roundOver' ? [Number(message.value.round)] : []));
const full = { case: 'rejected', value: Reason.ROUND_FULL };

test('more are invited than are needed; the round closes with the maximum, and the others hear that it is over', async () => {
  const service = await opened();
  await startTraining(service, { cohort });
  const agents = await five(service);
  expect(await service.getTask('train')).toMatchObject({
    cohort: 5,
    updatesMax: 3,
    waiting: expect.stringMatching(/^waiting for 3 more of 3 updates from 5 agents: a is training$/) as string,
  });
  const grid = await invited(agents);
  for (const agent of agents.slice(0, 3)) {
    expect(await agent.submit(updateOf(agent.id, grid))).toMatchObject({ accepted: true });
  }
  const { manifest } = await service.getModel('flowers', 0);
  const { version, totalWeight, contributionsDigest } = fromBinary(ManifestSchema, manifest);
  expect({ version, totalWeight }).toEqual({ version: 2n, totalWeight: 30n });
  const { data } = await service.readBlob(contributionsDigest, 0, 10_000);
  expect(fromBinary(ContributionListSchema, data).accepted).toHaveLength(3);
  expect(agents.map(over)).toEqual([[], [], [], [1], [1]]);
  // One that was on its way is refused for good by a reason of its own, and counted.
  const late = updateOf('d', grid);
  const { accepted, receipt } = await agents[3]!.submit(late);
  expect({ accepted, outcome: outcomeOf(receipt) }).toEqual({ accepted: false, outcome: full });
  // And so is one that was kept on the disk and is only offered.
  agents[4]!.say({ message: { case: 'offer', value: { updates: [offerOf(updateOf('e', grid).header)] } } });
  await expect.poll(() => agents[4]!.receipts().at(-1)?.outcome).toEqual(full);
  expect((await service.getTask('train')).rejectedByReason).toEqual({ 'round-full': 2n });
});

test('a restart remembers whom the last round did not need', async () => {
  const dataDir = temporaryFolder('over-selection');
  const service = await opened(dataDir);
  await startTraining(service, { cohort });
  const agents = await five(service);
  const grid = await invited(agents);
  for (const agent of agents.slice(0, 3)) await agent.submit(updateOf(agent.id, grid));
  await service.close();
  const again = await opened(dataDir);
  const { receipt } = await new TestAgent(again, 'd').submit(updateOf('d', grid));
  expect(outcomeOf(receipt)).toEqual(full);
});

test('an abandoned round is over for those who still train, and they are free for the next', async () => {
  const service = await opened();
  await startTraining(service, { cohort, collectMs: 300 });
  const agents = await five(service);
  const grid = await invited(agents);
  await agents[0]!.submit(updateOf('a', grid));
  await expect.poll(() => over(agents[1]!), { timeout: 20_000 }).toContain(1);
  expect(over(agents[0]!)).not.toContain(1);
  expect((await service.getTask('train')).roundsAbandoned).toBeGreaterThan(0n);
});

test.each([
  [{ min: 2, max: 3, overSelection: 0.9 }, /cohort.overSelection is 0.9: give a number from 1 to 10/],
  [{ min: 2, max: 3, overSelection: '2' }, /cohort.overSelection is "2"/],
  [{ min: 2, max: 3, over: 2 }, /cohort.over is not known: the keys are min, max, overSelection/],
])('a cohort %j is refused by its key', async (wrong, why) => {
  const service = await opened();
  await expect(startTraining(service, { cohort: wrong })).rejects.toThrow(why);
});

test.each([
  [{ collectMinMs: 1000, collectMs: 999 }, /collectMinMs must be a whole number from 0 to 999/],
  [{ collectMinMs: 5, strategy: { name: 'fedBuff', bufferSize: 3 } }, /collectMinMs is of a round/],
  [{ cohort, strategy: { name: 'fedBuff', bufferSize: 3 } }, /cohort.overSelection is for rounds/],
  [
    { cohort: { min: 5, max: 800, overSelection: 1.3 }, strategy: { name: 'krum' } },
    /cohort.max is 800, with cohort.overSelection 1040 agents are invited, and krum takes at most 1000 updates/,
  ],
])('a task %j is refused by its key', async (wrong, why) => {
  const service = await opened();
  await expect(startTraining(service, wrong)).rejects.toThrow(why);
});

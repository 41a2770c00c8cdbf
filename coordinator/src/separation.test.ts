import { afterEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../test/support/processes.ts';
import { gridFromWire } from '@commonweight/proto';
import { startTraining, TestAgent, updateOf } from '../../test/support/training.ts';
import { openCoordinator } from './coordinator.ts';
import type { CoordinatorService } from './service.ts';

const open: CoordinatorService[] = [];
afterEach(async () => {
  for (const service of open.splice(0)) await service.close();
});

async function opened(dataDir = temporaryFolder('separation')): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir });
  open.push(service);
  return service;
}

const cohort = { min: 2, max: 2, separation: 2 };

/** Those who are invited to a round, once they are; each delivers. */
async function played(agents: readonly TestAgent[], round: number): Promise<string[]> {
  const invited = () => agents.filter((agent) => agent.assignments().some((one) => Number(one.round) === round));
  await expect.poll(() => invited().length).toBe(2);
  for (const agent of invited()) {
    const grid = gridFromWire(agent.assignments().at(-1)!.grid!);
    const update = updateOf(agent.id, grid, { round: BigInt(round), baseVersion: BigInt(round) });
    expect(await agent.submit(update)).toMatchObject({ accepted: true });
  }
  return invited().map(({ id }) => id);
}

test('agents take turns, over restarts too; where too few have rested the task says so and waits', async () => {
  const dataDir = temporaryFolder('separation');
  const service = await opened(dataDir);
  await startTraining(service, { cohort, rounds: 0 });
  const agents = ['a', 'b', 'c', 'd'].map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  const [first, second] = [await played(agents, 1), await played(agents, 2)];
  expect([...first, ...second].sort()).toEqual(['a', 'b', 'c', 'd']);
  const resting = /^waiting for agents: 0 of at least 2 are ready, 4 took part in the last 2 rounds \(separation\)$/;
  await expect.poll(async () => (await service.getTask('train')).waiting).toMatch(resting);
  expect(await service.getTask('train')).toMatchObject({ phase: 'Idle', round: 2n, agentsResting: 4 });
  await service.close();

  const again = await opened(dataDir);
  const later = ['a', 'b', 'c', 'd', 'e', 'f'].map((id) => new TestAgent(again, id));
  for (const agent of later.slice(0, 4)) agent.ready();
  await expect.poll(async () => (await again.getTask('train')).waiting).toMatch(resting);
  for (const agent of later.slice(4)) agent.ready();
  expect((await played(later, 3)).sort()).toEqual(['e', 'f']);
  // Two rounds later the first ones are welcome again.
  expect((await played(later, 4)).sort()).toEqual(first.sort());
});

test('without rounds an agent is left out of the next buffers', async () => {
  const service = await opened();
  await startTraining(service, {
    cohort: { min: 1, max: 10, separation: 1 },
    strategy: { name: 'fedBuff', bufferSize: 1 },
    rounds: 0,
  });
  const [a, b] = ['a', 'b'].map((id) => new TestAgent(service, id)) as [TestAgent, TestAgent];
  const deliver = async (agent: TestAgent): Promise<void> => {
    const { invitation, round, grid } = agent.assignments().at(-1)!;
    const update = updateOf(agent.id, gridFromWire(grid!), { round, baseVersion: round, invitation });
    expect(await agent.submit(update)).toMatchObject({ accepted: true });
  };
  a.ready();
  await expect.poll(() => a.assignments().length).toBe(1);
  await deliver(a);
  // The next buffer is open, and would have a place.
  b.ready();
  await expect.poll(() => b.assignments().length).toBe(1);
  expect(a.assignments()).toHaveLength(1);
  await deliver(b);
  await expect.poll(() => a.assignments().length).toBe(2);
});

test.each([
  [{ min: 2, max: 2, separation: -1 }, /cohort.separation must be a whole number from 0 to 10000/],
  [
    { min: 2, max: 2000, separation: 51 },
    /cohort.separation 51 with up to 2000 updates a round are 102000 agents to remember, and 100000 is the most/,
  ],
])('a cohort %j is refused by its key', async (wrong, why) => {
  const service = await opened();
  await expect(startTraining(service, { cohort: wrong })).rejects.toThrow(why);
});

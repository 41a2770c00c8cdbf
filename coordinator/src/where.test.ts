import { create } from '@bufbuild/protobuf';
import { HelloSchema, type SessionResponse } from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../test/support/processes.ts';
import { startTraining, TestAgent } from '../../test/support/training.ts';
import { openCoordinator } from './coordinator.ts';
import type { CoordinatorService } from './service.ts';

const open: CoordinatorService[] = [];
afterEach(async () => {
  for (const service of open.splice(0)) await service.close();
});

async function opened(): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir: temporaryFolder('where') });
  open.push(service);
  return service;
}

const agent = (service: CoordinatorService, id: string, hello: object): TestAgent => new TestAgent(service, id, hello);
const where = { labels: { site: 'north' }, conditions: ['charging', 'idle'] };

test('an agent that does not qualify is never invited, and the task says how many do not and why', async () => {
  const service = await opened();
  await startTraining(service, { where, cohort: { min: 2, max: 2 }, rounds: 0 });
  const north = { labels: { site: 'north' } };
  const agents = [
    agent(service, 'a', { ...north, conditions: ['charging', 'idle'] }),
    agent(service, 'b', { ...north, conditions: ['charging'] }),
    agent(service, 'c', { labels: { site: 'south' }, conditions: ['charging', 'idle'] }),
    agent(service, 'd', {}),
  ];
  for (const one of agents) one.ready();
  const status = async () => service.getTask('train');
  await expect.poll(async () => (await status()).agentsUnqualified).toEqual({ 'label site': 2, 'condition idle': 1 });
  expect((await status()).waiting).toBe(
    'waiting for agents: 1 of at least 2 are ready, 3 do not qualify (condition idle 1, label site 2)',
  );
  // Its condition changes while it is connected.
  agents[1]!.say({ message: { case: 'conditions', value: { holding: ['charging', 'idle'] } } });
  await expect.poll(() => agents.map((one) => one.assignments().length)).toEqual([1, 1, 0, 0]);
  expect(agents[0]!.assignments()[0]!.conditions).toEqual(['charging', 'idle']);
  expect((await status()).agentsUnqualified).toEqual({ 'label site': 2 });
});

test('an agent that says of itself what it may not is turned away by what is wrong', async () => {
  const service = await opened();
  const sink = { send: (_: SessionResponse) => {}, close: () => {} };
  const connect = (hello: object) => () =>
    service.connectAgent(create(HelloSchema, { agentId: 'a', sessionId: 's', ...hello }), sink);
  const many = Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`l${i}`, 'x']));
  expect(connect({ labels: many })).toThrow(/agent a: it may have up to 16 labels/);
  expect(connect({ labels: { 'a b': 'x' } })).toThrow(/label "a b" must be a name/);
  expect(connect({ labels: { a: 'x'.repeat(65) } })).toThrow(/up to 64 characters as its value/);
  expect(connect({ conditions: ['on fire'] })).toThrow(/conditions must be up to 16 names/);
  expect(connect({ capabilities: { engine: 'x'.repeat(65) } })).toThrow(/engine and platform/);
});

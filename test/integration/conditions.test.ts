import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startCoordinator } from '@commonweight/coordinator';
import { mlp, writeModel } from '@commonweight/core';
import { runAgent, type AgentEvent } from '@commonweight/edge-agent';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder, until } from '../support/processes.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

test('a device that is unplugged stops its training, and is invited again once it charges', async () => {
  const coordinator = await startCoordinator({
    dataDir: temporaryFolder('conditions'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
  });
  closers.push(() => coordinator.close());
  const { service } = coordinator;
  await service.importModel('digits', writeModel(mlp({ inputs: 784, hidden: [8], outputs: 10, seed: 1 })));
  const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.001 }, epochs: 10_000, batchSize: 1 };
  const where = { conditions: ['charging'], labels: { site: 'north' } };
  const config = { model: 'digits', plan, cohort: { min: 1, max: 1 }, where, rounds: 1, collectMs: 20_000 };
  await service.createTask('train', JSON.stringify(config));
  await service.startTask('train');
  const file = join(temporaryFolder('conditions-file'), 'now.json');
  const say = (charging: boolean): void => writeFileSync(file, JSON.stringify({ charging }));
  say(true);
  const events: AgentEvent[] = [];
  const stop = new AbortController();
  const running = runAgent({
    coordinator: `grpc://127.0.0.1:${coordinator.grpcPort}`,
    data: 'mnist?partition=0/40&seed=1',
    agentId: 'a0',
    dataDir: temporaryFolder('conditions-agent'),
    device: { labels: { site: 'north' }, conditions: { set: {}, file } },
    signal: stop.signal,
    onEvent: (event) => events.push(event),
  });
  closers.push(async () => {
    stop.abort();
    await running;
  });
  const count = (type: AgentEvent['type']): number => events.filter((event) => event.type === type).length;
  await until('a training', 60_000, () => count('assignment') === 1);
  say(false);
  await until('it to stop', 60_000, () => count('failure') === 1);
  expect(events.find((event) => event.type === 'failure')?.reason).toBe(
    'training was stopped: charging does not hold any more',
  );
  const lacks = async () => (await service.getTask('train')).agentsUnqualified;
  await until('the coordinator to know', 60_000, async () => (await lacks())['condition charging'] === 1);
  say(true);
  // The round that it failed in is abandoned at its deadline; it is in the next one.
  await until('another training', 120_000, () => count('assignment') === 2);
}, 300_000);

import { join } from 'node:path';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { mlp, writeModel } from '@commonweight/core';
import { runAgent, type AgentEvent } from '@commonweight/edge-agent';
import { afterEach, expect, test } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { listening, natsServer, temporaryFolder, until } from '../support/processes.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function started(): Promise<{ coordinator: RunningCoordinator; urls: Record<'grpc' | 'nats', string> }> {
  const natsPort = await freePort();
  const nats = natsServer(natsPort);
  closers.push(() => nats.end('SIGTERM'));
  await listening(natsPort, nats);
  const url = `nats://127.0.0.1:${natsPort}`;
  const dataDir = temporaryFolder('leaving');
  const coordinator = await startCoordinator({ dataDir, grpc: '127.0.0.1:0', http: '127.0.0.1:0', nats: url });
  closers.push(() => coordinator.close());
  return { coordinator, urls: { grpc: `grpc://127.0.0.1:${coordinator.grpcPort}`, nats: url } };
}

function agentAt(coordinator: string, id: string, leavesBetweenRounds: boolean): AgentEvent[] {
  const events: AgentEvent[] = [];
  const stop = new AbortController();
  const running = runAgent({
    coordinator,
    data: `mnist?partition=${id}/40&seed=1`,
    agentId: `a${id}`,
    dataDir: join(temporaryFolder('leaving-agent'), id),
    signal: stop.signal,
    leavesBetweenRounds,
    onEvent: (event) => events.push(event),
  });
  closers.push(async () => {
    stop.abort();
    await running;
  });
  return events;
}

const config = {
  model: 'digits',
  plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 },
  cohort: { min: 3, max: 3 },
  rounds: 2,
};

test('agents that leave between rounds, over gRPC and NATS, come back when they are told and miss no round', async () => {
  const { coordinator, urls } = await started();
  const { service } = coordinator;
  await service.importModel('digits', writeModel(mlp({ inputs: 784, hidden: [8], outputs: 10, seed: 1 })));
  // Longer than agents are held for.
  await service.createTask('train', JSON.stringify({ ...config, pauseMs: 15_000 }));
  const stays = agentAt(urls.grpc, '0', false);
  const leaves = [agentAt(urls.grpc, '1', true), agentAt(urls.nats, '2', true)];
  // No task runs yet: who leaves is told so, and who stays is not.
  await until('both to leave', 90_000, () => leaves.every((events) => events.some(({ type }) => type === 'away')));
  expect(leaves.flat().find((event) => event.type === 'away')?.why).toBe('no task needs this agent now');
  await until('that they are seen to be gone', 60_000, async () =>
    (await service.listAgents()).every(({ agentId, online }) => online === (agentId === 'a0')),
  );
  await service.startTask('train');
  await until('the first version', 120_000, async () => (await service.getTask('train')).version >= 2n);
  const away = (): number => leaves.filter((events) => events.filter(({ type }) => type === 'away').length >= 2).length;
  await until('them to leave again', 60_000, () => away() === 2);
  await until('the second version', 120_000, async () => (await service.getTask('train')).state === 'finished');
  expect(stays.some(({ type }) => type === 'away')).toBe(false);
  const receipts = (events: AgentEvent[]): number => events.filter(({ type }) => type === 'receipt').length;
  await until('the receipts', 60_000, () => leaves.every((events) => receipts(events) === 2));
  expect([...leaves, stays].flat().filter(({ type }) => type === 'disconnected')).toEqual([]);
}, 300_000);

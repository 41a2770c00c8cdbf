import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { mlp, writeModel } from '@commonweight/core';
import { connect } from '@commonweight/client-sdk';
import { runAgent } from '@commonweight/edge-agent';
import { COORDINATOR_QUEUE } from '@commonweight/proto';
import { connect as connectNats, type NatsConnection } from '@nats-io/transport-node';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { listening, natsServer, temporaryFolder, until, type Program } from '../support/processes.ts';

/** Of ten coordinators that the NATS server shares work out to, nine take it and never answer, as processes that are stopped do. */
const HUNG = 9;
const SHARED = [
  'agent.*.session',
  'agent.*.download',
  'agent.*.status',
  'agent.*.submit',
  'model.get',
  'model.variants',
  'model.download',
];

const folder = temporaryFolder('hung-replica');
let nats: Program;
let url = '';
let coordinator: RunningCoordinator;
const hung: NatsConnection[] = [];

beforeAll(async () => {
  const port = await freePort();
  nats = natsServer(port);
  await listening(port, nats);
  url = `nats://127.0.0.1:${port}`;
  const addresses = { grpc: '127.0.0.1:0', http: '127.0.0.1:0', nats: url };
  coordinator = await startCoordinator({ dataDir: join(folder, 'coordinator'), ...addresses });
  await coordinator.service.importModel(
    'digits',
    writeModel(mlp({ inputs: 784, hidden: [256], outputs: 10, seed: 1 })),
  );
  for (let i = 0; i < HUNG; i++) {
    const member = await connectNats({ servers: `127.0.0.1:${port}` });
    for (const subject of SHARED)
      member.subscribe(`cw.v1.${subject}`, { queue: COORDINATOR_QUEUE, callback: () => {} });
    await member.flush();
    hung.push(member);
  }
});

afterAll(async () => {
  for (const member of hung) await member.close();
  await coordinator.close();
  await nats.end('SIGTERM');
});

test('agents find the coordinator that lives at their second try, and their rounds go on', async () => {
  const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 };
  const config = { model: 'digits', plan, cohort: { min: 3, max: 3 }, rounds: 2, pauseMs: 0 };
  await coordinator.service.createTask('train', JSON.stringify(config));
  await coordinator.service.startTask('train');
  const tries = [0, 0, 0];
  const stop = new AbortController();
  const agents = tries.map((_, i) =>
    runAgent({
      coordinator: url,
      data: `mnist?partition=${i}/60&alpha=0.5&seed=1`,
      agentId: `agent-${i}`,
      dataDir: join(folder, `agent-${i}`),
      signal: stop.signal,
      onEvent: ({ type }) => {
        if (type === 'disconnected') tries[i]! += 1;
      },
    }),
  );
  const isFinished = async (): Promise<boolean> => (await coordinator.service.getTask('train')).state === 'finished';
  await until('two rounds', 60_000, isFinished);
  stop.abort();
  await Promise.all(agents);
  expect(Math.max(...tries)).toBeLessThanOrEqual(1);
});

test('an app gets a model of several chunks from the coordinator that lives', async () => {
  const app = await connect(url, { cacheDir: join(folder, 'app') });
  const model = await app.model('digits');
  const { outputs } = await model.predict({ input: new Float32Array(784) });
  expect(Object.values(outputs)[0]?.data.length).toBe(10);
  await app.close();
});

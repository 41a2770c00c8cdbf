// What an app learns of its predictions reaches the agent of its device, and with that the next version that it serves.
import { join } from 'node:path';
import { connect } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { logistic, seeded, writeModel } from '@commonweight/core';
import { runAgent, type AgentEvent } from '@commonweight/edge-agent';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { temporaryFolder, until } from '../support/processes.ts';

let coordinator: RunningCoordinator;
beforeAll(async () => {
  const dataDir = join(temporaryFolder('feedback'), 'data');
  coordinator = await startCoordinator({ dataDir, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
});
afterAll(() => coordinator.close());

test('an app that says what was right gets versions that are right more often', async () => {
  const url = `grpc://127.0.0.1:${coordinator.grpcPort}`;
  await coordinator.service.importModel('sides', writeModel(logistic({ inputs: 4, outputs: 2, seed: 3 })));
  const folder = join(temporaryFolder('feedback'), 'given');
  const client = await connect(url, { reports: { everyMs: 300 } });
  const model = await client.model('sides', { feedback: { folder } });
  const random = seeded('sides');
  /** Asks about points and says on which side of a plane they lie; gives the share of right answers. */
  const use = async (points: number): Promise<number> => {
    let right = 0;
    for (let i = 0; i < points; i += 1) {
      const input = Float32Array.from({ length: 4 }, () => random.normal());
      const label = Number(input[0]! - 2 * input[1]! + input[2]! > 0);
      const { id, outputs } = await model.predict({ input });
      const [no, yes] = outputs['logits']!.data as Float32Array;
      right += Number(Number(yes! > no!) === label);
      await model.feedback(id, { label });
    }
    return right / points;
  };
  const before = await use(200);
  const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.5 }, epochs: 5, batchSize: 16 };
  const config = { model: 'sides', plan, cohort: { min: 1, max: 1 }, rounds: 0, pauseMs: 500 };
  await coordinator.service.createTask('train', JSON.stringify(config));
  await coordinator.service.startTask('train');
  const events: AgentEvent[] = [];
  const stop = new AbortController();
  const agent = runAgent({
    coordinator: url,
    data: `feedback:${folder}`,
    agentId: 'a0',
    dataDir: join(temporaryFolder('feedback'), 'agent'),
    engine: 'ort-cpu',
    threads: 1,
    signal: stop.signal,
    onEvent: (event) => events.push(event),
  });
  const trainedOn = (): number[] => events.flatMap((event) => (event.type === 'trained' ? [event.examples] : []));
  try {
    await until('a version from feedback', 120_000, () => (model.version ?? 0) >= 3);
    expect(trainedOn()[0]).toBe(200);
    const after = await use(200);
    expect(after).toBeGreaterThan(Math.max(0.9, before));
    // What was said since is in the next rounds.
    await until('a round with all of it', 120_000, () => trainedOn().at(-1) === 400);
    const said = async (): Promise<bigint> =>
      (await coordinator.service.getFleets('sides'))[0]?.versions.reduce((sum, { labelled }) => sum + labelled, 0n) ??
      0n;
    await until('the reports', 60_000, async () => (await said()) === 400n);
  } finally {
    stop.abort();
    await agent;
    await client.close();
  }
});

/** A static form without any central data: agents over both transports measure a version, and what they add up to is what all their data gives. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { connect } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import {
  calibrationGraph,
  calibrationMethods,
  Calibrator,
  cnn,
  quantizeModel,
  writeModel,
  type ModelProto,
} from '@commonweight/core';
import { loadDataset, runAgent, type AgentEvent } from '@commonweight/edge-agent';
import { openVariantList, type VariantList } from '@commonweight/proto';
import { Tensor } from 'onnxruntime-node';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { verifyEd25519 } from '../../client-sdk/src/trust/ed25519.ts';
import { examplesOf, openSession, trainedOnDigits } from '../support/digit-models.ts';
import { freePort } from '../support/free-port.ts';
import { listening, natsServer, temporaryFolder, until, type Program } from '../support/processes.ts';

const PARTS = 90;
const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 };
const main = join(import.meta.dirname, '../../cli/src/main.ts');

let coordinator: RunningCoordinator;
let nats: Program;
let natsUrl: string;
let digits: ModelProto;
const events: { agent: number; event: AgentEvent }[] = [];
const stop: AbortController[] = [];
const running: Promise<void>[] = [];

beforeEach(async () => {
  const port = await freePort();
  natsUrl = `nats://127.0.0.1:${port}`;
  nats = natsServer(port);
  await listening(port, nats);
  coordinator = await startCoordinator({
    dataDir: temporaryFolder('calibration'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
    nats: natsUrl,
  });
  const { service } = coordinator;
  const small = cnn({ height: 28, width: 28, channels: 1, filters: [8], kernel: 3, dense: 32, outputs: 10, seed: 1 });
  digits = await trainedOnDigits(small, 100);
  await service.importModel('digits', writeModel(digits));
  // So many that it never begins a round: its agents are free.
  await service.createTask('train', JSON.stringify({ model: 'digits', plan, cohort: { min: 50, max: 50 }, rounds: 1 }));
  await service.startTask('train');
}, 120_000);
afterEach(async () => {
  for (const one of stop.splice(0)) one.abort();
  await Promise.all(running.splice(0));
  events.length = 0;
  await coordinator.close();
  await nats.end('SIGKILL');
});

const url = (): string => `grpc://127.0.0.1:${coordinator.grpcPort}`;

function startAgent(part: number, at: string, changes: object = {}): void {
  const aborter = new AbortController();
  stop.push(aborter);
  running.push(
    runAgent({
      coordinator: at,
      data: `mnist?partition=${part}/${PARTS}&by=iid`,
      agentId: `a${part}`,
      dataDir: temporaryFolder(`calibration-a${part}`),
      signal: aborter.signal,
      onEvent: (event) => events.push({ agent: part, event }),
      ...changes,
    }),
  );
}

const online = (agents: number): Promise<void> =>
  until(`${agents} agents`, 60_000, async () => (await coordinator.service.listAgents()).length === agents);

/** What `commonweight model variants` prints as JSON, or what it ends with. */
const variants = (...args: string[]): Promise<Record<string, unknown>[]> =>
  new Promise((resolve, reject) => {
    const flags = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];
    const line = [...flags, main, 'model', 'variants', 'digits@1', '--json', '--coordinator', url(), ...args];
    execFile(process.execPath, line, (error, stdout, stderr) => {
      if (error !== null) return reject(new Error(stderr));
      const lines = stdout.trim().split('\n');
      resolve(lines.map((text) => JSON.parse(text) as Record<string, unknown>));
    });
  });

async function listed(): Promise<VariantList> {
  const signed = await coordinator.service.getVariants('digits', 1);
  return openVariantList(signed!, coordinator.service.publicKey, verifyEd25519);
}

/** What all the data of these agents in one place comes to. */
async function central(parts: readonly number[]): Promise<Calibrator> {
  const { model, values } = calibrationGraph(digits);
  const session = await openSession(model);
  const calibrator = new Calibrator(values);
  for (const part of parts) {
    const data = await loadDataset(`mnist?partition=${part}/${PARTS}&by=iid`);
    const { examples } = data;
    const { inputs } = examplesOf(data, 0, examples);
    const feeds = { [session.inputNames[0]!]: new Tensor('float32', inputs, [examples, 1, 28, 28]) };
    const tensors = Object.entries({ ...feeds, ...(await session.run(feeds)) });
    calibrator.add(new Map(tensors.map(([name, tensor]) => [name, tensor.data as Float32Array])));
  }
  await session.release();
  return calibrator;
}

test('agents over gRPC and NATS calibrate a version, and the form is that of their data together', async () => {
  startAgent(0, url());
  startAgent(1, natsUrl);
  startAgent(2, url());
  await online(3);
  const made = await variants('--make', 'int8-static');
  expect(made.map(({ variant, state }) => [variant, state])).toEqual([
    ['fp32', 'published'],
    ['int8-static', 'made'],
  ]);
  expect(made[1]).toMatchObject({ calibrationAgents: 3, calibrationExamples: 300, calibrationMethod: 'minmax' });
  const together = await central([0, 1, 2]);
  const digests = new Set<unknown>();
  // The first is there already.
  for (const method of calibrationMethods) {
    const [, anew] = await variants('--make', 'int8-static', '--calibration-method', method);
    expect(anew).toMatchObject({ calibrationAgents: 3, calibrationExamples: 300, calibrationMethod: method });
    const [{ digest, size, calibration } = expect.fail()] = (await listed()).variants;
    expect(calibration?.method).toBe(method);
    const { data } = await coordinator.service.readBlob(digest, 0, Number(size));
    const ranges = together.ranges({ method });
    const own = writeModel(quantizeModel(digits, 'static-int8', { ranges }).model);
    expect([method, Buffer.from(data).equals(own)]).toEqual([method, true]);
    digests.add(anew!['digest']);
  }
  expect(digests.size).toBe(calibrationMethods.length);
  const told = events.flatMap(({ agent, event }) => (event.type === 'calibrated' ? [agent] : []));
  expect(new Set(told)).toEqual(new Set([0, 1, 2]));

  const [, measured] = await variants('--measure', '--data', 'mnist?split=test');
  expect(measured).toMatchObject({ variant: 'int8-static', state: 'published', examples: 1000 });
  const client = await connect(url(), { variant: { choice: 'int8' } });
  try {
    const model = await client.model('digits');
    expect(model.variant.candidates.map(({ name }) => name)).toContain('int8-static');
    const inputs = examplesOf(await loadDataset('mnist?split=test'), 0, 1).inputs;
    const { version } = await model.predict({ [model.contract!.inputs[0]!.name]: inputs });
    expect(version).toBe(1);
  } finally {
    await client.close();
  }
}, 240_000);

test('agents whose owners do not want it are not counted, and too few are told of', async () => {
  startAgent(0, url());
  startAgent(1, natsUrl, { calibrates: false });
  await online(2);
  const failure = variants('--make', 'int8-static', '--calibration-agents-min', '2');
  await expect(failure).rejects.toThrow(
    '1 of the 2 agents that it takes calibrated version 1 of digits within 60 s: try again while more of them are connected and free',
  );
  expect(await coordinator.service.getVariants('digits', 1)).toBeUndefined();
}, 240_000);

/** Forms that nobody measures by hand: agents over both transports, and behind a relay, do, and what they add up to is what all their data gives in one place. */
import { connect } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import {
  cnn,
  joinModel,
  layoutOf,
  logistic,
  readModel,
  splitModel,
  writeModel,
  type ModelProto,
} from '@commonweight/core';
import { loadDataset, runAgent, type AgentEvent } from '@commonweight/edge-agent';
import { openVariantList, VariantState, type Variant } from '@commonweight/proto';
import { Tensor } from 'onnxruntime-node';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { verifyEd25519 } from '../../client-sdk/src/trust/ed25519.ts';
import { examplesOf, openSession, trainedOnDigits } from '../support/digit-models.ts';
import { freePort } from '../support/free-port.ts';
import { relayBefore } from '../support/relays.ts';
import { listening, natsServer, temporaryFolder, until, type Program } from '../support/processes.ts';

const PARTS = 90;
const plan = { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 10 };
/** So many that no round begins: the agents are free. */
const cohort = { min: 50, max: 50 };

let coordinator: RunningCoordinator;
let nats: Program;
let natsUrl: string;
const events: { agent: string; event: AgentEvent }[] = [];
const stop: AbortController[] = [];
const closing: { close(): Promise<void> }[] = [];
const running: Promise<void>[] = [];

beforeEach(async () => {
  const port = await freePort();
  natsUrl = `nats://127.0.0.1:${port}`;
  nats = natsServer(port);
  await listening(port, nats);
  const dataDir = temporaryFolder('measured-forms');
  coordinator = await startCoordinator({ dataDir, grpc: '127.0.0.1:0', http: '127.0.0.1:0', nats: natsUrl });
}, 120_000);
afterEach(async () => {
  for (const one of stop.splice(0)) one.abort();
  await Promise.all(running.splice(0));
  events.length = 0;
  for (const one of closing.splice(0)) await one.close();
  await coordinator.close();
  await nats.end('SIGKILL');
});

const url = (): string => `grpc://127.0.0.1:${coordinator.grpcPort}`;
const dataOf = (part: number): string => `mnist?partition=${part}/${PARTS}&by=iid`;

function startAgent(agentId: string, at: string, data: string, changes: object = {}): void {
  const aborter = new AbortController();
  stop.push(aborter);
  running.push(
    runAgent({
      coordinator: at,
      data,
      agentId,
      dataDir: temporaryFolder(`measured-${agentId}`),
      signal: aborter.signal,
      onEvent: (event) => events.push({ agent: agentId, event }),
      ...changes,
    }),
  );
}

async function startTask(model: ModelProto, config: object): Promise<void> {
  const { service } = coordinator;
  await service.importModel('digits', writeModel(model));
  await service.createTask('train', JSON.stringify({ model: 'digits', plan, cohort, rounds: 1, ...config }));
  await service.startTask('train');
}

/** The forms of the first version, once each of them stands. */
async function decided(forms: readonly string[]): Promise<Map<string, Variant>> {
  const listed = async (): Promise<Variant[]> => {
    const signed = await coordinator.service.getVariants('digits', 1);
    return signed === undefined ? [] : openVariantList(signed, coordinator.service.publicKey, verifyEd25519).variants;
  };
  const stands = ({ state }: Variant): boolean => state === VariantState.PUBLISHED || state === VariantState.WITHHELD;
  await until(`a verdict on ${forms.join(', ')}`, 120_000, async () => {
    const variants = await listed();
    return forms.every((form) => variants.some((variant) => variant.name === form && stands(variant)));
  });
  return new Map((await listed()).map((variant) => [variant.name, variant]));
}

/** How many of all these examples a model gets right, one at a time as an app asks. */
async function rightOf(onnx: Uint8Array, specs: readonly string[], dims: readonly number[]): Promise<number> {
  const session = await openSession(onnx);
  let right = 0;
  for (const spec of specs) {
    const data = await loadDataset(spec);
    for (let example = 0; example < data.examples; example++) {
      const { inputs, labels } = examplesOf(data, example, 1);
      const feeds = { [session.inputNames[0]!]: new Tensor('float32', inputs, dims) };
      const scores = (await session.run(feeds))[session.outputNames[0]!]!.data as Float32Array;
      if (scores.indexOf(Math.max(...scores)) === labels[0]) right += 1;
    }
  }
  await session.release();
  return right;
}

test('the forms of a task are measured and published by themselves, and an app is offered them', async () => {
  const relay = await relayBefore(coordinator.grpcPort!);
  closing.push(relay);
  const small = cnn({ height: 28, width: 28, channels: 1, filters: [8], kernel: 3, dense: 32, outputs: 10, seed: 1 });
  const digits = await trainedOnDigits(small, 100);
  await startTask(digits, { variants: { forms: ['int8-dynamic', 'int8-static'], accuracyDropPointsMax: 2 } });
  startAgent('a0', url(), dataOf(0));
  startAgent('a1', natsUrl, dataOf(1));
  startAgent('a2', `grpc://127.0.0.1:${relay.grpcPort}`, dataOf(2));
  const forms = await decided(['int8-dynamic', 'int8-static']);

  const all = [dataOf(0), dataOf(1), dataOf(2)];
  const float32 = await rightOf(writeModel(digits), all, [1, 1, 28, 28]);
  for (const [form, { state, measurement, digest, size }] of forms) {
    const { data: onnx } = await coordinator.service.readBlob(digest, 0, Number(size));
    const right = await rightOf(onnx, all, [1, 1, 28, 28]);
    expect([form, state]).toEqual([form, VariantState.PUBLISHED]);
    expect(measurement).toMatchObject({ data: "3 agents' own data", examples: 300n });
    expect(measurement!.accuracy).toMatchObject({ float32: float32 / 300, variant: right / 300 });
  }
  const told = events.flatMap(({ agent, event }) => (event.type === 'measured' ? [agent] : []));
  expect(new Set(told)).toEqual(new Set(['a0', 'a1', 'a2']));

  const client = await connect(url(), { variant: { choice: 'int8' } });
  try {
    const { candidates } = (await client.model('digits')).variant;
    const offered = candidates.flatMap(({ name, published }) => (published === undefined ? [] : [name]));
    expect(new Set(offered)).toEqual(new Set(['int8-dynamic', 'int8-static']));
  } finally {
    await client.close();
  }
}, 300_000);

/** Float32 never meets these weights, for the pixel in the corner is always 0; but they take the whole range of 8 bits. */
function spoiled(model: ModelProto): ModelProto {
  const { graph, weights } = splitModel(model);
  const split = readModel(graph);
  const { offset, shape } = layoutOf(split).parameters.find((parameter) => parameter.shape.length === 2)!;
  weights.fill(1e4, offset, offset + shape[1]!);
  return readModel(joinModel(split, weights));
}

test('a form that loses too much is withheld by what an evaluator finds, alone and on all that it has', async () => {
  const digits = spoiled(await trainedOnDigits(logistic({ inputs: 784, outputs: 10, seed: 1 }), 100));
  await startTask(digits, { variants: { forms: ['int8-dynamic'] }, evaluators: ['judge'] });
  startAgent('judge', natsUrl, 'mnist?split=test', { isEvaluator: true });
  const { measurement, state, why } = (await decided(['int8-dynamic'])).get('int8-dynamic')!;
  expect(state).toBe(VariantState.WITHHELD);
  expect(why).toMatch(
    /^loses \d\d\.\d\d points of accuracy on 1000 examples of 1 evaluator's data, and 0\.5 are allowed$/,
  );
  const right = await rightOf(writeModel(digits), ['mnist?split=test'], [1, 784]);
  expect(measurement!.accuracy!.float32).toBe(right / 1000);
  expect(measurement!.accuracy!.variant).toBeLessThan(0.3);
  const client = await connect(url(), { variant: { choice: 'int8' } });
  try {
    expect((await client.model('digits')).variant.candidates.map(({ name }) => name)).not.toContain('int8-dynamic');
  } finally {
    await client.close();
  }
}, 300_000);

test('agents whose owners do not want it are not asked, and the form says how many answered', async () => {
  const digits = await trainedOnDigits(logistic({ inputs: 784, outputs: 10, seed: 1 }), 20);
  await startTask(digits, { variants: { forms: ['int8-dynamic'] } });
  startAgent('a0', url(), dataOf(0));
  startAgent('a1', natsUrl, dataOf(1), { measuresForms: false });
  const words = 'not measured yet: 1 of the 3 agents that it takes measured it within 60 s, and no evaluator did';
  await until(words, 180_000, async () => {
    const signed = await coordinator.service.getVariants('digits', 1);
    if (signed === undefined) return false;
    const { variants } = openVariantList(signed, coordinator.service.publicKey, verifyEd25519);
    return variants[0]!.state === VariantState.MADE && variants[0]!.why === words;
  });
  expect(events.some(({ agent, event }) => agent === 'a1' && event.type === 'measured')).toBe(false);
}, 300_000);

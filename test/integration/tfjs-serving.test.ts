/** Predictions by TensorFlow.js: in an app and from the command line, with a real coordinator, beside ONNX Runtime. */
import { join } from 'node:path';
import { connect, type Client, type ConnectOptions } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { contractOf, mlp, readModel, writeModel } from '@commonweight/core';
import { tfjs } from '@commonweight/edge-agent/tfjs';
import { create } from '@bufbuild/protobuf';
import { openVariantList, VariantMeasurementSchema } from '@commonweight/proto';
import { verifyEd25519 } from '../../client-sdk/src/trust/ed25519.ts';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { Engines } from '../../client-sdk/src/runtime/engines.ts';
import { madeUpInputs } from '../../client-sdk/src/runtime/example-inputs.ts';
import type { Feeds } from '../../client-sdk/src/runtime/tensor.ts';
import { makeModel, makeNode, makeValue } from '../../core/src/onnx/nodes.ts';
import { floatTensor } from '../../core/src/onnx/tensor-data.ts';
import { freePort } from '../support/free-port.ts';
import { commonweight, commonweightWith, temporaryFolder, until } from '../support/processes.ts';

const WAIT_MS = 90_000;
let coordinator: RunningCoordinator;
const folder = temporaryFolder('tfjs-serving');
const closers: (() => Promise<unknown>)[] = [];

const digits = writeModel(mlp({ inputs: 784, hidden: [32], outputs: 10, seed: 1 }));
/** A matrix product, and an operator that the interpreter lacks. */
const hard = writeModel(
  makeModel({
    name: 'hard',
    node: [makeNode('MatMul', ['x', 'w'], ['h']), makeNode('Hardmax', ['h'], ['y'])],
    initializer: [
      floatTensor(
        'w',
        [64, 64],
        Float32Array.from({ length: 64 * 64 }, (_, at) => Math.sin(at * at)),
      ),
    ],
    input: [makeValue('x', ['n', 64])],
    output: [makeValue('y', ['n', 64])],
  }),
);

beforeAll(async () => {
  coordinator = await startCoordinator({
    dataDir: join(folder, 'coordinator'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
  });
  for (const [name, onnx] of Object.entries({ digits, still: digits, published: digits, hard }))
    await coordinator.service.importModel(name, onnx);
});
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});
afterAll(() => coordinator.close());

const url = (): string => `grpc://127.0.0.1:${coordinator.grpcPort}`;

async function client(options: ConnectOptions): Promise<Client> {
  const opened = await connect(url(), { engines: [tfjs], readyTimeoutMs: WAIT_MS, ...options });
  closers.push(() => opened.close());
  return opened;
}

test('it works here, runs in a thread of its own, and says by which package', async () => {
  expect(await tfjs.whyNot()).toBeUndefined();
  const engine = new Engines([tfjs], { threads: 1 });
  closers.push(() => engine.close());
  expect(await engine.runtime()).toMatch(/^@tensorflow\/tfjs-\S+ \d+\.\d+\.\d+ tfjs$/);
  const wide = writeModel(mlp({ inputs: 2048, hidden: [2048], outputs: 2048, seed: 1 }));
  const session = await engine.load(wide);
  const { inputs } = contractOf(readModel(wide));
  let turns = 0;
  const count = setInterval(() => (turns += 1), 1);
  closers.push(() => Promise.resolve(clearInterval(count)));
  await session.run({ ...madeUpInputs(inputs, { rows: 256, seed: 'x' }) });
  // The event loop went on turning while it ran.
  expect(turns).toBeGreaterThan(0);
  await session.release();
});

test('an app serves by it where it is asked for, with the answers of ONNX Runtime, one row or many', async () => {
  const own = await (await client({ engine: 'tfjs' })).model('still');
  const usual = await (await client({})).model('still');
  expect([own.variant.engine, usual.variant.engine]).toEqual(['tfjs', 'ort-cpu']);
  for (const rows of [1, 7, 2, 7]) {
    const { input } = madeUpInputs(contractOf(readModel(digits)).inputs, {
      rows,
      seed: String(rows),
    }) as Required<Feeds>;
    const [a, b] = [await own.predict({ input: input! }), await usual.predict({ input: input! })];
    expect(a.outputs['logits']!.dims).toEqual([rows, 10]);
    (b.outputs['logits']!.data as Float32Array).forEach((value, at) =>
      expect(Math.abs((a.outputs['logits']!.data as Float32Array)[at]! - value)).toBeLessThan(1e-4),
    );
  }
});

test('auto measures it beside the others, and takes it only where it is faster than float32 on the CPU', async () => {
  const model = await (await client({ engine: 'auto', variant: { choice: 'fp32' } })).model('still');
  const { candidates, engine, why } = model.variant;
  const own = candidates.find((candidate) => candidate.engine === 'tfjs');
  expect(own).toMatchObject({ name: 'fp32' });
  const plain = candidates.find((candidate) => candidate.engine === 'ort-cpu');
  const times = (list: typeof own): number[] | undefined => list?.runMs?.map(({ ms }) => ms);
  const [theirs, usual] = [times(own), times(plain)];
  if (theirs === undefined || usual === undefined) {
    expect(engine).not.toBe('tfjs');
    expect(why).toMatch(/fp32 on tfjs takes \d+\.\d times as long with 1 row/);
  } else if (engine === 'tfjs') theirs.forEach((ms, at) => expect(ms).toBeLessThanOrEqual(usual[at]!));
});

test('a model and forms that it cannot compute are left aside by auto, and said where it is forced', async () => {
  const auto = await (await client({ engine: 'auto', variant: { choice: 'auto' } })).model('hard');
  expect(auto.variant.engine).not.toBe('tfjs');
  expect(auto.variant.why).toMatch(/fp32 cannot be loaded by tfjs: tfjs .*Hardmax/);
  const forced = (await client({ engine: 'tfjs', readyTimeoutMs: 10_000 })).model('hard');
  await expect(forced).rejects.toThrow(/tfjs .*Hardmax/);
  const int8 = await (await client({ engine: 'tfjs', variant: { choice: 'int8' } })).model('still');
  expect(int8.variant).toMatchObject({ name: 'fp32', engine: 'tfjs' });
  expect(int8.variant.why).toMatch(/^int8-dynamic cannot be loaded by tfjs: tfjs computes float32 alone, /);
});

test('published forms whose needs it does not meet are neither fetched nor loaded, and each says what it lacks', async () => {
  const { service } = coordinator;
  const forms = ['int8-dynamic', 'int8-blocks', 'fp16'] as const;
  await service.makeVariants('published', 1, { forms, accuracyDropPointsMax: 0.5 });
  const signed = (await service.getVariants('published', 1))!;
  const list = openVariantList(signed, service.publicKey, verifyEd25519);
  for (const { name: form, digest } of list.variants) {
    const measurement = create(VariantMeasurementSchema, { data: 'rows', examples: 64n, difference: 0, agreement: 1 });
    await service.reportVariant({ model: 'published', version: 1, form, digest, measurement });
  }
  const { variant } = await (await client({ engine: 'tfjs', variant: { choice: 'auto' } })).model('published');
  expect(variant).toMatchObject({ name: 'fp32', engine: 'tfjs' });
  expect(variant.why).toBe(
    'int8-dynamic needs DynamicQuantizeLinear, which tfjs does not have; ' +
      'int8-blocks needs MatMulNBits of com.microsoft, which tfjs does not have; ' +
      'fp16 needs float16, which tfjs does not have',
  );
  expect(variant.candidates.map(({ name, lacks }) => [name, lacks])).toEqual([
    ['fp32', undefined],
    ['int8-dynamic', 'DynamicQuantizeLinear'],
    ['int8-blocks', 'MatMulNBits of com.microsoft'],
    ['fp16', 'float16'],
  ]);
});

interface Answer {
  code: number;
  body: { model_version?: string; outputs?: { shape: number[]; data: number[] }[] };
}

async function ask(at: string, rows = 1): Promise<Answer> {
  const input = { name: 'input', datatype: 'FP32', shape: [rows, 784], data: Array<number>(rows * 784).fill(0.5) };
  const response = await fetch(`${at}/v2/models/digits/infer`, {
    method: 'POST',
    body: JSON.stringify({ inputs: [input] }),
  });
  return { code: response.status, body: (await response.json()) as Answer['body'] };
}

test('an agent serves by it what it trains, and an app follows, version after version', async () => {
  await coordinator.service.createTask(
    'train',
    JSON.stringify({
      model: 'digits',
      plan: { loss: 'cross-entropy', optimizer: { name: 'sgd', learningRate: 0.1 }, epochs: 1, batchSize: 32 },
      cohort: { min: 1, max: 1 },
      rounds: 3,
    }),
  );
  const port = await freePort();
  const agent = commonweight(
    ...['agent', '--coordinator', url(), '--data', 'mnist?partition=0/40&seed=1', '--id', 'a0'],
    ...['--dir', join(folder, 'a0'), '--serve', `127.0.0.1:${port}`, '--serve-model', 'digits'],
    ...['--serve-engine', 'tfjs'],
  );
  closers.push(() => agent.end('SIGTERM'));
  const at = `http://127.0.0.1:${port}`;
  const isReady = (): Promise<boolean> =>
    fetch(`${at}/v2/health/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  await until('the model', WAIT_MS, isReady, agent.output);
  expect(agent.output()).toContain('digits: version 1 serves as fp32 on tfjs');
  const [app, usual] = [await client({ engine: 'tfjs' }), await client({})];
  const [own, exact] = [await app.model('digits'), await usual.model('digits')];
  await coordinator.service.startTask('train');
  const failures: unknown[] = [];
  await until(
    'version 4',
    WAIT_MS,
    async () => {
      const answer = await ask(at);
      if (answer.code !== 200) failures.push(answer.body);
      await own.predict({ input: new Float32Array(784).fill(0.5) });
      return answer.body.model_version === '4' && own.version === 4 && exact.version === 4;
    },
    agent.output,
  );
  expect(failures).toEqual([]);
  expect([own.variant.engine, exact.variant.engine]).toEqual(['tfjs', 'ort-cpu']);
  const { outputs } = await exact.predict({ input: new Float32Array(784).fill(0.5) });
  const wanted = [...(outputs['logits']!.data as Float32Array)];
  const answers = [
    (await ask(at)).body.outputs![0]!.data,
    [...((await own.predict({ input: new Float32Array(784).fill(0.5) })).outputs['logits']!.data as Float32Array)],
  ];
  for (const answer of answers) {
    expect(answer.length).toBe(10);
    answer.forEach((value, index) => expect(Math.abs(value - wanted[index]!)).toBeLessThan(1e-4));
  }
});

test('serve --engine tfjs answers in batches, and says what to install where there is none', async () => {
  const port = await freePort();
  const served = commonweight(
    ...['serve', 'digits', '--coordinator', url(), '--engine', 'tfjs', '--http', `127.0.0.1:${port}`],
    ...['--dir', join(folder, 'serving')],
  );
  closers.push(() => served.end('SIGTERM'));
  await until('the model', WAIT_MS, () => / serves as fp32 on tfjs/.test(served.output()), served.output);
  const answers = await Promise.all([1, 2, 3, 4, 5, 6].map((rows) => ask(`http://127.0.0.1:${port}`, rows)));
  expect(answers.map(({ code, body }) => [code, body.outputs?.[0]?.shape])).toEqual(
    [1, 2, 3, 4, 5, 6].map((rows) => [200, [rows, 10]]),
  );
  const hidden = `--import=${join(import.meta.dirname, '../support/hide-tfjs.mjs')}`;
  const without = commonweightWith(
    { NODE_OPTIONS: hidden },
    ...['serve', 'digits', '--coordinator', url(), '--engine', 'tfjs', '--http', '127.0.0.1:0'],
    ...['--dir', join(folder, 'without')],
  );
  closers.push(() => without.end('SIGKILL'));
  await until('its end', WAIT_MS, () => without.child.exitCode !== null, without.output);
  expect(without.output()).toContain(
    'tfjs does not work here: no TensorFlow.js is installed: npm install @tensorflow/tfjs-node, or @tensorflow/tfjs-core with @tensorflow/tfjs-backend-wasm',
  );
  expect(without.child.exitCode).not.toBe(0);
});

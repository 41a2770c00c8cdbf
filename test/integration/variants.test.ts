/** Forms of a version from the coordinator to what an app runs: made, measured by an evaluator, published, chosen. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { connect, type Client, type VariantChoice } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { addRanges, calibrationGraph, Calibrator, mlp, writeModel, type ModelProto } from '@commonweight/core';
import { loadDataset } from '@commonweight/edge-agent';
import { openVariantList, VariantState, type VariantList } from '@commonweight/proto';
import * as ort from 'onnxruntime-node';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { verifyEd25519 } from '../../client-sdk/src/trust/ed25519.ts';
import { temporaryFolder } from '../support/processes.ts';
import { examplesOf, openSession, outputsOf, trainedOnDigits } from '../support/digit-models.ts';

let coordinator: RunningCoordinator;
let digits: ModelProto;
const folder = temporaryFolder('variants');
const clients: Client[] = [];

beforeAll(async () => {
  coordinator = await startCoordinator({
    dataDir: join(folder, 'data'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
  });
  digits = await trainedOnDigits(mlp({ inputs: 784, hidden: [64], outputs: 10, seed: 1 }), 60);
  await coordinator.service.importModel('digits', writeModel(digits));
});
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
});
afterAll(async () => {
  await coordinator.close();
  await rm(folder, { recursive: true });
});

const url = (): string => `grpc://127.0.0.1:${coordinator.grpcPort}`;
const FLAGS = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];
const main = join(import.meta.dirname, '../../cli/src/main.ts');

/** What `commonweight model …` prints as JSON; fails with what it says on standard error. */
const model = (...args: string[]): Promise<Record<string, unknown>[]> =>
  new Promise((resolve, reject) => {
    const line = [...FLAGS, main, 'model', ...args, '--json', '--coordinator', url()];
    execFile(process.execPath, line, (error, stdout, stderr) =>
      error === null
        ? resolve(
            stdout
              .trim()
              .split('\n')
              .map((text) => JSON.parse(text) as Record<string, unknown>),
          )
        : reject(new Error(stderr, { cause: error })),
    );
  });

const variants = (...args: string[]): Promise<Record<string, unknown>[]> => model('variants', 'digits@1', ...args);

async function listed(of = 'digits'): Promise<VariantList> {
  const signed = await coordinator.service.getVariants(of, 1);
  return openVariantList(signed!, coordinator.service.publicKey, verifyEd25519);
}

/** What an evaluator would have found of a form, where float32 has 0.9. */
async function report(of: string, form: string, accuracy: number): Promise<void> {
  const { digest } = (await listed(of)).variants.find(({ name }) => name === form)!;
  await coordinator.service.reportVariant({
    model: of,
    version: 1,
    form,
    digest,
    measurement: {
      $typeName: 'commonweight.v1.VariantMeasurement',
      data: 'harder digits',
      examples: 500n,
      difference: 0.2,
      agreement: 0.85,
      accuracy: { $typeName: 'commonweight.v1.VariantAccuracy', float32: 0.9, variant: accuracy },
    },
  });
}

async function digitsFor(choice: 'auto' | 'int8') {
  const client = await connect(url(), { variant: { choice } });
  clients.push(client);
  return client.model('digits');
}

test('a form goes from made to published when its accuracy is known, and an app takes exactly it', async () => {
  const made = await variants('--make', 'int8-dynamic,int8-blocks');
  expect(made.map(({ variant, state }) => [variant, state])).toEqual([
    ['fp32', 'published'],
    ['int8-dynamic', 'made'],
    ['int8-blocks', 'made'],
  ]);
  // What each form needs was read off its own graph.
  expect(made[1]!['needs']).toMatchObject({ operatorSets: [{ domain: '' }] });
  expect(made[2]!['needs']).toMatchObject({
    operatorSets: [{ domain: '' }, { domain: 'com.microsoft', version: 1 }],
    operators: expect.arrayContaining(['Relu', 'com.microsoft:MatMulNBits']) as string[],
  });
  const before = await digitsFor('int8');
  // Nothing is published yet, so the app made its own.
  expect(before.variant.candidates.map(({ name, published }) => [name, published])).toEqual([
    ['fp32', undefined],
    ['int8-dynamic', undefined],
  ]);

  const [, dynamic, blocks] = await variants('--measure', '--data', 'mnist?split=test');
  for (const form of [dynamic, blocks]) {
    expect(form).toMatchObject({ state: 'published', measuredOn: 'mnist?split=test', examples: 1000 });
    expect(form!['accuracyFp32']).toBeGreaterThan(0.6);
    expect(Math.abs((form!['accuracyFp32'] as number) - (form!['accuracy'] as number))).toBeLessThanOrEqual(0.005);
    expect(form!['bytes']).toBeLessThan((made[0]!['bytes'] as number) / 2.5);
  }

  const { variant, predict } = await digitsFor('int8').then((model) => ({
    variant: model.variant,
    predict: () => model.predict({ [model.contract!.inputs[0]!.name]: new Float32Array(784) }),
  }));
  expect(variant.candidates.map(({ name, published }) => [name, typeof published])).toEqual([
    ['fp32', 'undefined'],
    ['int8-dynamic', 'string'],
    ['int8-blocks', 'string'],
  ]);
  expect(['int8-dynamic', 'int8-blocks']).toContain(variant.name);
  expect((await predict()).version).toBe(1);
});

test('a form that loses too much is withheld from apps, which do not make it themselves', async () => {
  const { service } = coordinator;
  await service.makeVariants('digits', 1, { forms: ['int8-dynamic'], accuracyDropPointsMax: 0.5 });
  await report('digits', 'int8-dynamic', 0.8);
  expect((await listed()).variants.find(({ name }) => name === 'int8-dynamic')?.state).toBe(VariantState.WITHHELD);
  const { variant } = await digitsFor('int8');
  expect(variant.candidates.map(({ name }) => name)).not.toContain('int8-dynamic');
});

test('each published form is exported as a file that stock onnxruntime loads, and answers as the SDK does', async () => {
  const FORMS = ['int8-dynamic', 'int8-blocks', 'int8-static', 'int4-blocks', 'fp16'];
  const { inputs } = examplesOf(await loadDataset('mnist'), 0, 200);
  const { model: probe, values } = calibrationGraph(digits);
  const calibrator = new Calibrator(values);
  calibrator.add(new Map([...(await outputsOf(probe, inputs.slice(), [200, 784])), ['input', inputs]]));
  // Its versions say the ranges of activations themselves, so that int8-static needs no agents.
  await coordinator.service.importModel(
    'ranged',
    writeModel(addRanges(digits, calibrator.ranges({ method: 'minmax' }))),
  );
  await model('variants', 'ranged', '--make', FORMS.join());
  const file = join(folder, 'form.onnx');
  const exported = async (variant: string, ...more: string[]): Promise<ort.InferenceSession> => {
    const [written] = await model('export', 'ranged@1', file, '--variant', variant, ...more);
    expect(written).toMatchObject({ event: 'written', model: 'ranged', version: 1, variant, format: 'onnx' });
    const bytes = readFileSync(file);
    expect(written!['bytes']).toBe(bytes.length);
    return await openSession(bytes);
  };
  await expect(exported('int8-static')).rejects.toThrow(
    /int8-static of ranged version 1 was not measured yet.*published are fp32:/,
  );

  const row = inputs.slice(0, 784);
  const examples = Array.from({ length: 64 }, (_, at) => inputs.slice(at * 784, (at + 1) * 784));
  for (const form of ['fp32', ...FORMS]) {
    // All but this one are withheld, so it is what an app with int8 takes.
    for (const other of FORMS) await report('ranged', other, other === form ? 0.9 : 0.8);
    const client = await connect(url(), {
      variant: {
        // Of forms with four bits or sixteen, the name begins with what is asked for.
        choice: form.split('-')[0] as VariantChoice,
        differenceMax: 0.2,
        examples: () => Promise.resolve(examples.map((data) => ({ input: { type: 'float32', data, dims: [1, 784] } }))),
      },
    });
    clients.push(client);
    const app = await client.model('ranged');
    expect(app.variant.name).toBe(form);
    const session = await exported(form);
    const { logits } = await session.run({ input: new ort.Tensor('float32', row.slice(), [1, 784]) });
    const answer = await app.predict({ input: row.slice() });
    expect(logits!.data).toEqual(answer.outputs['logits']!.data);
    await session.release();
  }
  await expect(exported('int8-dynamic')).rejects.toThrow(
    /int8-dynamic of ranged version 1 is not published: .*; published are fp32, fp16/,
  );
  await expect(exported('int3')).rejects.toThrow(/no form int3 of ranged version 1; published are fp32, fp16: /);
  await expect(exported('int8-static', '--merge')).rejects.toThrow('merge first');
  await expect(exported('int8-static', '--format', 'bundle')).rejects.toThrow('leave out --format bundle');
  await expect(exported('int8-static', '--version', '1')).rejects.toThrow('names the version already');
});

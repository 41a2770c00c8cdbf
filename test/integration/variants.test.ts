/** Forms of a version from the coordinator to what an app runs: made, measured by an evaluator, published, chosen. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { connect, type Client } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { mlp, writeModel } from '@commonweight/core';
import { openVariantList, VariantState, type VariantList } from '@commonweight/proto';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { verifyEd25519 } from '../../client-sdk/src/trust/ed25519.ts';
import { temporaryFolder } from '../support/processes.ts';
import { trainedOnDigits } from '../support/digit-models.ts';

let coordinator: RunningCoordinator;
const clients: Client[] = [];

beforeAll(async () => {
  coordinator = await startCoordinator({
    dataDir: temporaryFolder('variants'),
    grpc: '127.0.0.1:0',
    http: '127.0.0.1:0',
  });
  const digits = await trainedOnDigits(mlp({ inputs: 784, hidden: [64], outputs: 10, seed: 1 }), 60);
  await coordinator.service.importModel('digits', writeModel(digits));
});
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
});
afterAll(() => coordinator.close());

const url = (): string => `grpc://127.0.0.1:${coordinator.grpcPort}`;
const FLAGS = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];
const main = join(import.meta.dirname, '../../cli/src/main.ts');

/** What `commonweight model variants` prints as JSON. */
const variants = (...args: string[]): Promise<Record<string, unknown>[]> =>
  new Promise((resolve, reject) => {
    const line = [...FLAGS, main, 'model', 'variants', 'digits@1', '--json', '--coordinator', url(), ...args];
    execFile(process.execPath, line, (error, stdout) =>
      error === null
        ? resolve(
            stdout
              .trim()
              .split('\n')
              .map((text) => JSON.parse(text) as Record<string, unknown>),
          )
        : reject(error),
    );
  });

async function listed(): Promise<VariantList> {
  const signed = await coordinator.service.getVariants('digits', 1);
  return openVariantList(signed!, coordinator.service.publicKey, verifyEd25519);
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
  const dynamic = (await listed()).variants.find(({ name }) => name === 'int8-dynamic')!;
  const accuracy = { $typeName: 'commonweight.v1.VariantAccuracy', float32: 0.9, variant: 0.8 } as const;
  await service.reportVariant({
    model: 'digits',
    version: 1,
    form: 'int8-dynamic',
    digest: dynamic.digest,
    measurement: {
      $typeName: 'commonweight.v1.VariantMeasurement',
      data: 'harder digits',
      examples: 500n,
      difference: 0.2,
      agreement: 0.85,
      accuracy,
    },
  });
  expect((await listed()).variants.find(({ name }) => name === 'int8-dynamic')?.state).toBe(VariantState.WITHHELD);
  const { variant } = await digitsFor('int8');
  expect(variant.candidates.map(({ name }) => name)).not.toContain('int8-dynamic');
});

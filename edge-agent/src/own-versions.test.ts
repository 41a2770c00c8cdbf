import { create, toBinary } from '@bufbuild/protobuf';
import { logistic, splitModel, writeModel } from '@commonweight/core';
import {
  ManifestSchema,
  MeasurementRequestSchema,
  SignedManifestSchema,
  SignedVariantListSchema,
  VariantListSchema,
  type MeasurementReport,
} from '@commonweight/proto';
import { beforeEach, expect, test } from 'vitest';
import { sha256 } from '../../test/support/training.ts';
import type { AgentEvent } from './events.ts';
import type { FormCounts } from './forms/messages.ts';
import { OwnVersions, type MeasureForm } from './own-versions.ts';

const key = new Uint8Array(32).fill(7);
const { graph, weights } = splitModel(logistic({ inputs: 2, outputs: 3, seed: 1 }));
const blobs = new Map<string, Uint8Array>();
const blob = (bytes: Uint8Array): { digest: Uint8Array; size: bigint } => {
  blobs.set(Buffer.from(sha256(bytes)).toString('hex'), bytes);
  return { digest: sha256(bytes), size: BigInt(bytes.length) };
};
const fetched = ({ digest }: { digest: Uint8Array }): Promise<Uint8Array> =>
  Promise.resolve(blobs.get(Buffer.from(digest).toString('hex'))!);

const manifest = toBinary(
  ManifestSchema,
  create(ManifestSchema, {
    model: 'm',
    version: 4n,
    artifacts: [
      { role: 'graph', ...blob(graph) },
      { role: 'weights', ...blob(new Uint8Array(weights.buffer)) },
    ],
  }),
);
const variants = ['int8-dynamic', 'int8-blocks'].map((name) => ({ name, ...blob(Buffer.from(name)) }));
const listOf = (changes: object = {}): Uint8Array =>
  toBinary(
    VariantListSchema,
    create(VariantListSchema, { model: 'm', variants, manifestDigest: sha256(manifest), ...changes }),
  );

let said: Partial<MeasurementReport>[] = [];
let told: AgentEvent[] = [];
beforeEach(() => void ([said, told] = [[], []]));

const counts: FormCounts = {
  examples: 50,
  labelled: true,
  float32Right: 40,
  right: 39,
  rows: 50,
  agreeing: 49,
  difference: 0.1,
};

function agent(
  measureForm: MeasureForm | undefined,
  changes: { isEvaluator?: boolean; isGenuine?: boolean } = {},
): OwnVersions {
  return new OwnVersions({
    ...(measureForm === undefined ? {} : { measureForm }),
    isEvaluator: changes.isEvaluator ?? false,
    key: () => key,
    isGenuine: (kind) => Promise.resolve(kind === 'Manifest' || (changes.isGenuine ?? true)),
    sha256,
    blob: fetched,
    download: fetched,
    say: (message) => {
      if (message.case === 'measurementReport') said.push(message.value as MeasurementReport);
    },
    tell: (event) => told.push(event),
  });
}

const requestOf = (changes: object = {}, list = listOf()) =>
  create(MeasurementRequestSchema, {
    requestId: Uint8Array.of(1),
    release: create(SignedManifestSchema, { manifest, publicKey: key }),
    variants: create(SignedVariantListSchema, { list, publicKey: key }),
    forms: ['int8-dynamic', 'int8-blocks'],
    examplesMax: 1000,
    holdOut: 0.2,
    classes: true,
    ...changes,
  });

test('each form is run beside float32 as it was signed, and one that fails does not take the others with it', async () => {
  const jobs: Parameters<MeasureForm>[0][] = [];
  const measure: MeasureForm = (job) => {
    jobs.push(job);
    return jobs.length === 1 ? Promise.resolve(counts) : Promise.reject(new Error('no such operator'));
  };
  await agent(measure).measure(requestOf());
  expect(
    jobs.map(({ form, ...job }) => ({ ...job, form: Buffer.from(form).toString(), float32: job.float32.length })),
  ).toEqual(
    variants.map(({ name }) => ({
      form: name,
      float32: writeModel(logistic({ inputs: 2, outputs: 3, seed: 1 })).length,
      examplesMax: 1000,
      holdOut: 0.2,
      classes: true,
    })),
  );
  expect(said).toMatchObject([
    {
      forms: [
        { form: 'int8-dynamic', examples: 50n, float32Right: 40n, right: 39n, failure: '' },
        { form: 'int8-blocks', failure: 'no such operator' },
      ],
    },
  ]);
  expect(told).toEqual([{ type: 'measured', model: 'm', version: 4, forms: ['int8-dynamic'], examples: 50 }]);
});

test('an evaluator measures with all that it has, and nobody with more than there may be asked for', async () => {
  const jobs: Parameters<MeasureForm>[0][] = [];
  const measure: MeasureForm = (job) => Promise.resolve((jobs.push(job), counts));
  await agent(measure, { isEvaluator: true }).measure(requestOf({ examplesMax: 2 ** 31 }));
  expect([jobs[0]!.holdOut, jobs[0]!.examplesMax]).toEqual([0, 10_000]);
});

test.each<[string, () => ReturnType<typeof requestOf>, { isGenuine?: boolean }?]>([
  ['wrong signature', () => requestOf(), { isGenuine: false }],
  ['the forms are not those of version 4', () => requestOf({}, listOf({ manifestDigest: new Uint8Array(32) }))],
  ['version 4 has no form "int3"', () => requestOf({ forms: ['int3'] })],
  ['the request names no forms', () => requestOf({ forms: [] })],
  ['17 forms are too many to measure', () => requestOf({ forms: Array.from({ length: 17 }, () => 'int8-dynamic') })],
])('nothing is run of a request that is not whole: %s', async (words, request, changes = {}) => {
  const measure: MeasureForm = () => Promise.reject(new Error('it was run'));
  await agent(measure, changes).measure(request());
  expect(said).toMatchObject([{ failure: expect.stringContaining(words) as string }]);
});

test('an agent runs one version at a time, and says so where it does not measure at all', async () => {
  const { promise, resolve } = Promise.withResolvers<FormCounts>();
  const busy = agent(() => promise);
  const first = busy.measure(requestOf());
  await busy.measure(requestOf());
  expect(said).toMatchObject([{ failure: 'it runs another version at the moment' }]);
  resolve(counts);
  await first;
  await agent(undefined).measure(requestOf());
  expect(said.at(-1)).toMatchObject({ failure: 'it does not measure forms' });
});

import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import {
  addRanges,
  calibrationGraph,
  Calibrator,
  logistic,
  needsOf,
  QuantizeError,
  quantizeModel,
  rangesIn,
  readModel,
  writeModel,
  type Range,
} from '@commonweight/core';
import {
  histogramsToWire,
  needsFromWire,
  openVariantList,
  VariantState,
  type SignedVariantList,
  type VariantList,
  type VerifyEd25519,
} from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder, until } from '../../../test/support/processes.ts';
import { config, invited, sha256, startTraining, TestAgent, updateOf } from '../../../test/support/training.ts';
import { openCoordinator } from '../coordinator.ts';
import { verifierOf } from '../identity/signer.ts';
import type { CoordinatorService } from '../service.ts';
import type { VariantPolicy } from './forms.ts';

const closing: CoordinatorService[] = [];
afterEach(async () => {
  for (const one of closing.splice(0).reverse()) await one.close();
});

async function opened(dataDir = temporaryFolder('variants')): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir });
  closing.push(service);
  return service;
}

const policy: VariantPolicy = { forms: ['int8-dynamic', 'int8-blocks'], accuracyDropPointsMax: 0.5 };
const ALL = {
  'int8-dynamic': 'dynamic-int8',
  'int8-blocks': 'int8-blocks',
  'int4-blocks': 'int4-blocks',
  fp16: 'fp16',
} as const;
const float32 = writeModel(logistic({ inputs: 64, outputs: 8, seed: 3 }));

function listIn(service: CoordinatorService, signed: SignedVariantList | undefined): VariantList {
  const verify: VerifyEd25519 = verifierOf(service.publicKey);
  return openVariantList(signed!, service.publicKey, verify);
}

const formsOf = async (service: CoordinatorService, model = 'm', version = 0): Promise<VariantList> =>
  listIn(service, await service.getVariants(model, version));

const measurement = (change: number) =>
  ({
    $typeName: 'commonweight.v1.VariantMeasurement',
    data: 'digits',
    examples: 1000n,
    difference: 0.01,
    agreement: 1,
    accuracy: { $typeName: 'commonweight.v1.VariantAccuracy', float32: 0.9, variant: 0.9 + change },
  }) as const;

test('the forms of a version are what the quantizer makes of it, signed with the manifest that they belong to', async () => {
  const service = await opened();
  const { manifest } = await service.importModel('m', float32);
  expect(await service.getVariants('m', 0)).toBeUndefined();
  await service.makeVariants('m', 1, { ...policy, forms: Object.keys(ALL) as (keyof typeof ALL)[] });
  const list = await formsOf(service);
  expect(list).toMatchObject({ model: 'm', version: 1n, revision: 1n, accuracyDropPointsMax: 0.5 });
  expect(Buffer.from(list.manifestDigest)).toEqual(Buffer.from(sha256(manifest)));
  for (const [name, form] of Object.entries(ALL)) {
    const variant = list.variants.find((each) => each.name === name)!;
    expect(variant).toMatchObject({ state: VariantState.MADE, why: 'not measured yet' });
    const { data } = await service.readBlob(variant.digest, 0, Number(variant.size));
    expect(Buffer.from(sha256(data))).toEqual(Buffer.from(variant.digest));
    expect(needsFromWire(variant.needs!)).toEqual(needsOf(readModel(data)));
    expect(Buffer.from(data)).toEqual(Buffer.from(writeModel(quantizeModel(readModel(float32), form).model)));
  }
});

test('what was measured publishes or withholds, and is there after a restart', async () => {
  const dataDir = temporaryFolder('variants');
  const service = await opened(dataDir);
  await service.importModel('m', float32);
  await service.makeVariants('m', 1, policy);
  const [dynamic, blocks] = (await formsOf(service)).variants;
  const report = { model: 'm', version: 1 };
  await service.reportVariant({
    ...report,
    form: 'int8-dynamic',
    digest: dynamic!.digest,
    measurement: measurement(-0.001),
  });
  await service.reportVariant({
    ...report,
    form: 'int8-blocks',
    digest: blocks!.digest,
    measurement: measurement(-0.02),
  });
  const states = async (of: CoordinatorService): Promise<VariantState[]> =>
    (await formsOf(of)).variants.map(({ state }) => state);
  expect(await states(service)).toEqual([VariantState.PUBLISHED, VariantState.WITHHELD]);
  await closing.pop()!.close();
  const again = await opened(dataDir);
  expect(await states(again)).toEqual([VariantState.PUBLISHED, VariantState.WITHHELD]);
  // A wider margin decides anew on what was measured, and makes nothing again.
  await again.makeVariants('m', 1, { ...policy, accuracyDropPointsMax: 3 });
  const list = await formsOf(again);
  expect(list.variants.map(({ state }) => state)).toEqual([VariantState.PUBLISHED, VariantState.PUBLISHED]);
  expect(list.variants.map(({ digest }) => digest)).toEqual([dynamic!.digest, blocks!.digest]);
  expect(list.revision).toBe(4n);
});

test('a report of something else than the form is refused, and changes nothing', async () => {
  const service = await opened();
  await service.importModel('m', float32);
  const digest = new Uint8Array(32);
  const report = { model: 'm', version: 1, form: 'int8-dynamic', digest, measurement: measurement(0) };
  await expect(service.reportVariant(report)).rejects.toMatchObject({ code: 'not-found' });
  await service.makeVariants('m', 1, policy);
  await expect(service.reportVariant(report)).rejects.toMatchObject({ code: 'invalid' });
  await expect(service.reportVariant({ ...report, form: 'int3' })).rejects.toMatchObject({ code: 'not-found' });
  await expect(service.reportVariant({ ...report, version: 2 })).rejects.toMatchObject({ code: 'not-found' });
  const [dynamic] = (await formsOf(service)).variants;
  const nothing = { ...report, digest: dynamic!.digest, measurement: undefined };
  await expect(service.reportVariant(nothing)).rejects.toMatchObject({ code: 'invalid' });
  expect((await formsOf(service)).revision).toBe(1n);
});

test('outputs that agree do not outdo labels that were not met', async () => {
  const service = await opened();
  await service.importModel('m', float32);
  await service.makeVariants('m', 1, policy);
  const [{ digest } = { digest: new Uint8Array() }] = (await formsOf(service)).variants;
  const report = { model: 'm', version: 1, form: 'int8-dynamic', digest };
  await service.reportVariant({ ...report, measurement: measurement(-0.1) });
  const { accuracy: _, ...unlabelled } = measurement(0);
  await expect(service.reportVariant({ ...report, measurement: unlabelled })).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringContaining('measured on digits already') as string,
  });
  expect((await formsOf(service)).variants[0]?.state).toBe(VariantState.WITHHELD);
});

test('a list that was damaged on the disk is neither served nor signed anew', async () => {
  const dataDir = temporaryFolder('variants');
  const service = await opened(dataDir);
  await service.importModel('m', float32);
  await service.makeVariants('m', 1, policy);
  const [dynamic] = (await formsOf(service)).variants;
  await closing.pop()!.close();
  const database = new DatabaseSync(join(dataDir, 'commonweight.sqlite'));
  const { list } = database.prepare('SELECT list FROM variant_lists').get() as { list: Uint8Array };
  const flipped = Uint8Array.from(list);
  flipped[flipped.length - 1]! ^= 1;
  database.prepare('UPDATE variant_lists SET list = ?').run(flipped);
  database.close();
  const again = await opened(dataDir);
  const words = 'the forms of version 1 of m are damaged: restore a backup';
  await expect(again.getVariants('m', 1)).rejects.toThrow(words);
  const report = { model: 'm', version: 1, form: 'int8-dynamic', digest: dynamic!.digest };
  await expect(again.reportVariant({ ...report, measurement: measurement(0) })).rejects.toThrow(words);
});

test('a form that cannot be made says why, and the version serves without it', async () => {
  const service = await opened();
  const made = quantizeModel(readModel(float32), 'dynamic-int8').model;
  const refusal = (): void => void quantizeModel(made, 'dynamic-int8');
  expect(refusal).toThrow(QuantizeError);
  await service.importModel('m', writeModel(made));
  await service.makeVariants('m', 1, { ...policy, forms: ['int8-dynamic'] });
  expect((await formsOf(service)).variants).toMatchObject([
    { name: 'int8-dynamic', state: VariantState.REFUSED, size: 0n },
  ]);
});

test('a task with forms has them made of every version that it publishes, and of the one that it begins with', async () => {
  const service = await opened();
  await startTraining(service, { variants: { forms: ['int8-dynamic'] }, rounds: 1 });
  await until('the forms of version 1', 10_000, async () => (await service.getVariants('flowers', 1)) !== undefined);
  const agents = ['a', 'b', 'c'].map((id) => new TestAgent(service, id));
  agents.forEach((agent) => agent.ready());
  const grid = await invited(agents);
  for (const agent of agents) await agent.submit(updateOf(agent.id, grid));
  await until('the forms of version 2', 10_000, async () => {
    if ((await service.getTask('train')).version !== 2n) return false;
    return (await service.getVariants('flowers', 2)) !== undefined;
  });
  const [before, after] = [await formsOf(service, 'flowers', 1), await formsOf(service, 'flowers', 2)];
  expect(after.variants.map(({ name }) => name)).toEqual(['int8-dynamic']);
  expect(after.variants[0]!.digest).not.toEqual(before.variants[0]!.digest);
});

test('a coordinator that ends waits for no forms, and makes them when it is back', async () => {
  const dataDir = temporaryFolder('variants');
  const service = await opened(dataDir);
  await startTraining(service, { variants: { forms: ['int8-dynamic'] } });
  await closing.pop()!.close();
  const again = await opened(dataDir);
  await until('the forms', 10_000, async () => (await again.getVariants('flowers', 1)) !== undefined);
  expect((await formsOf(again, 'flowers')).variants).toMatchObject([{ name: 'int8-dynamic' }]);
});

/** Answers what an agent with these inputs would; gives what it was asked. */
function calibrateWith(agent: TestAgent, inputs: readonly number[]) {
  const request = agent.messages
    .flatMap(({ message }) => (message.case === 'calibrationRequest' ? [message.value] : []))
    .at(-1)!;
  const calibrator = calibratorOf(inputs);
  const values = histogramsToWire(calibrator.states(request.binsMax));
  agent.say({
    message: { case: 'calibrationReport', value: { requestId: request.requestId, examples: 4n, values } },
  });
  return request;
}

const flowers = readModel(writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));

/** As if these numbers had been every value that the static form of the model of `startTraining` rounds. */
function calibratorOf(inputs: readonly number[]): Calibrator {
  const { values } = calibrationGraph(flowers);
  const calibrator = new Calibrator(values);
  calibrator.add(new Map(values.map((name) => [name, Float32Array.from(inputs)])));
  return calibrator;
}

const wasAsked = (agent: TestAgent): boolean =>
  agent.messages.some(({ message }) => message.case === 'calibrationRequest');

test('the static form of a version is made of ranges that its agents add up to, and says of how many', async () => {
  const service = await opened();
  await startTraining(service, { variants: { forms: ['int8-static'] }, cohort: { min: 10, max: 10 } });
  const agents = ['a', 'b', 'c'].map((id) => new TestAgent(service, id));
  agents.slice(0, 2).forEach((agent) => agent.ready());
  await until('two requests', 60_000, () => Promise.resolve(agents.slice(0, 2).every(wasAsked)));
  expect(wasAsked(agents[2]!)).toBe(false);
  calibrateWith(agents[0]!, [-1, 2]);
  calibrateWith(agents[1]!, [0.5]);
  // Two are too few; the third comes, and its report is the last one.
  expect(await service.getVariants('flowers', 1)).toBeUndefined();
  agents[2]!.ready();
  calibrateWith(agents[2]!, [-3, 1]);
  await until('the form', 60_000, async () => (await service.getVariants('flowers', 1)) !== undefined);
  const [variant] = (await formsOf(service, 'flowers')).variants;
  expect(variant).toMatchObject({
    name: 'int8-static',
    state: VariantState.MADE,
    calibration: { agents: 3n, examples: 12n, method: 'minmax' },
  });
  const { data } = await service.readBlob(variant!.digest, 0, Number(variant!.size));
  const ranges = calibratorOf([-1, 2, 0.5, -3, 1]).ranges();
  expect(Buffer.from(data)).toEqual(Buffer.from(writeModel(quantizeModel(flowers, 'static-int8', { ranges }).model)));
  // It is asked for again, and nobody is asked anew.
  const before = agents[0]!.messages.length;
  await service.makeVariants('flowers', 1, { forms: ['int8-static'], accuracyDropPointsMax: 0.5 });
  expect(agents[0]!.messages.length).toBe(before);
});

test('a static form is made anew by another method where somebody asks for it, and the one before goes', async () => {
  const dataDir = temporaryFolder('variants');
  const service = await opened(dataDir);
  const task = { variants: { forms: ['int8-static'], calibrationAgentsMin: 2 }, cohort: { min: 10, max: 10 } };
  await startTraining(service, task);
  const agents = ['a', 'b'].map((id) => new TestAgent(service, id));
  const inputs = [Array.from({ length: 999 }, (_, at) => (at / 1000) ** 4), [-3, 40]];
  const answered = async (bins: number): Promise<void> => {
    await until('requests', 60_000, () => Promise.resolve(agents.every(wasAsked)));
    agents.forEach((agent, index) => {
      expect(calibrateWith(agent, inputs[index]!).binsMax).toBe(bins);
      agent.messages.length = 0;
    });
  };
  agents.forEach((agent) => agent.ready());
  await answered(512);
  await until('the form', 60_000, async () => (await service.getVariants('flowers', 1)) !== undefined);
  const [before] = (await formsOf(service, 'flowers')).variants;
  expect(before!.calibration!.method).toBe('minmax');
  await service.reportVariant({
    model: 'flowers',
    version: 1,
    form: 'int8-static',
    digest: before!.digest,
    measurement: measurement(-0.1),
  });
  // Nobody says how: what is there stays.
  await service.makeVariants('flowers', 1, { forms: ['int8-static'], accuracyDropPointsMax: 0.5 });
  const again = { forms: ['int8-static'], accuracyDropPointsMax: 0.5, calibrationAgentsMin: 2 } as const;
  const made = service.makeVariants('flowers', 1, { ...again, calibrationMethod: 'entropy' });
  await answered(2048);
  const [after, ...others] = listIn(service, await made).variants;
  expect(others).toEqual([]);
  expect(after).toMatchObject({ state: VariantState.MADE, calibration: { agents: 2n, method: 'entropy' } });
  expect(after!.measurement).toBeUndefined();
  const { data } = await service.readBlob(after!.digest, 0, Number(after!.size));
  const ranges = calibratorOf(inputs.flat()).ranges({ method: 'entropy' });
  expect(Buffer.from(data)).toEqual(Buffer.from(writeModel(quantizeModel(flowers, 'static-int8', { ranges }).model)));
  await expect(service.readBlob(before!.digest, 0, 10)).rejects.toThrow('was collected');
  // A task that began otherwise changes nothing of it after a restart.
  await closing.pop()!.close();
  const restarted = await opened(dataDir);
  expect((await formsOf(restarted, 'flowers')).variants[0]!.digest).toEqual(after!.digest);
});

test('a version that keeps its ranges has its static form made of them, and no agent is asked', async () => {
  const service = await opened();
  const ranges = new Map<string, Range>(calibrationGraph(flowers).values.map((name) => [name, { min: -2, max: 3 }]));
  const kept = addRanges(flowers, ranges);
  await service.importModel('flowers', writeModel(kept));
  await service.createTask('train', JSON.stringify({ ...config, variants: { forms: ['int8-static'] } }));
  const agent = new TestAgent(service, 'a');
  agent.ready();
  await service.startTask('train');
  await until('the form', 60_000, async () => (await service.getVariants('flowers', 1)) !== undefined);
  const [variant] = (await formsOf(service, 'flowers')).variants;
  expect([variant!.name, variant!.state, variant!.calibration]).toEqual(['int8-static', VariantState.MADE, undefined]);
  const { data } = await service.readBlob(variant!.digest, 0, Number(variant!.size));
  const own = { ranges: rangesIn(kept)! };
  expect(Buffer.from(data)).toEqual(Buffer.from(writeModel(quantizeModel(kept, 'static-int8', own).model)));
  expect(wasAsked(agent)).toBe(false);
});

test('where no task trains a model its static form is refused at once, and other forms are made all the same', async () => {
  const service = await opened();
  await service.importModel('m', float32);
  const both: VariantPolicy = { ...policy, forms: ['int8-dynamic', 'int8-static'] };
  await expect(service.makeVariants('m', 1, both)).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringContaining('which no task trains') as string,
  });
  expect((await formsOf(service)).variants.map(({ name }) => name)).toEqual(['int8-dynamic']);
});

test('a coordinator that ends waits for no agents that calibrate', async () => {
  const service = await opened();
  await startTraining(service, { cohort: { min: 10, max: 10 } });
  const agent = new TestAgent(service, 'a');
  agent.ready();
  const made = service.makeVariants('flowers', 1, { forms: ['int8-static'], accuracyDropPointsMax: 0.5 });
  made.catch(() => {});
  await until('the request', 60_000, () => Promise.resolve(wasAsked(agent)));
  await closing.pop()!.close();
  await expect(made).rejects.toThrow('this coordinator is ending');
});

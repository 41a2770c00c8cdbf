import { mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { logistic, mlp, type ModelProto } from '@commonweight/core';
import { afterEach, expect, test } from 'vitest';
import { MemoryLink } from '../../../test/support/memory-link.ts';
import { withEngine } from '../../../test/support/with-engine.ts';
import { connectOn, type Client } from '../client.ts';
import { sleep } from '../connection/backoff.ts';
import type { ModelLink } from '../connection/model-link.ts';
import { TrustError } from '../errors.ts';
import { nodePlatform } from '../platform/node.ts';
import { OrtEngine } from '../runtime/ort-engine.ts';
import type { ModelEvents } from './events.ts';
import sharp from 'sharp';
import type { InputValue } from './inputs.ts';
import type { ModelOptions } from './life.ts';
import type { Model } from './model.ts';

const clients: Client[] = [];
const closeAll = async (): Promise<void> => void (await Promise.all(clients.splice(0).map((client) => client.close())));
afterEach(closeAll);

async function open(link: ModelLink, cacheDir?: string, options: ModelOptions = {}): Promise<Model> {
  const platform = { ...nodePlatform, openLink: () => link };
  const client = await connectOn(platform, '', {
    readyTimeoutMs: 5000,
    ...(cacheDir === undefined ? {} : { cacheDir }),
  });
  clients.push(client);
  return client.model('m', options);
}

function record<Name extends keyof ModelEvents>(model: Model, name: Name): ModelEvents[Name][] {
  const events: ModelEvents[Name][] = [];
  model.on(name, (event) => events.push(event));
  return events;
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries += 1) {
    if (tries > 6000) throw new Error('waited a minute in vain');
    await sleep(10);
  }
}

const small = (seed: number): ModelProto => logistic({ inputs: 4, outputs: 3, seed });
const input = (): { input: Float32Array } => ({ input: new Float32Array([1, 2, 3, 4]) });
/** Every weight and bias is `value`, so a logit is `value * (1 + 2 + 3 + 4 + 1)`. */
const all = (value: number) => (weights: Float32Array) => void weights.fill(value);

test('a prediction comes from the newest version and names it', async () => {
  const link = new MemoryLink();
  link.publish(1, small(1), all(1));
  const model = await open(link);
  expect(await model.predict(input())).toEqual({
    id: '',
    version: 1,
    outputs: { logits: { data: new Float32Array([11, 11, 11]), dims: [1, 3] } },
  });
  link.publish(2, small(1), all(2));
  await until(() => model.version === 2);
  expect((await model.predict(input())).outputs['logits']?.data).toEqual(new Float32Array([22, 22, 22]));
});

test('no prediction fails and none mixes versions while many versions are swapped in', async () => {
  const link = new MemoryLink();
  const publish = (version: number): void =>
    link.publish(version, mlp({ inputs: 4, hidden: [8], outputs: 3, seed: 1 }), (weights) => {
      // Only the last bias counts: the logits are the version.
      weights.fill(0);
      weights.fill(version, weights.length - 3);
    });
  publish(1);
  // On a busy machine one may well be slower than the one before.
  const model = await open(link, undefined, { probation: { latencyFactorMax: Infinity } });
  const swaps = record(model, 'version');
  const superseded = record(model, 'superseded');
  const errors = record(model, 'error');
  let [done, predictions] = [false, 0];
  const load = Array.from({ length: 8 }, async () => {
    while (!done) {
      const { outputs, version } = await model.predict(input());
      expect([...(outputs['logits']?.data ?? [])]).toEqual([version, version, version]);
      predictions += 1;
    }
  });
  for (let version = 2; version <= 200; version += 1) {
    publish(version);
    await sleep(version % 10 === 0 ? 40 : 2);
  }
  await until(() => model.version === 200);
  done = true;
  await Promise.all(load);
  expect(errors).toEqual([]);
  expect(predictions).toBeGreaterThan(200);
  expect(swaps.length).toBeGreaterThan(20);
  expect(swaps.length + superseded.length).toBe(200);
  expect(swaps[0]).toEqual({ from: undefined, to: 1, reason: 'current' });
});

test('a call that began before a swap finishes on its version, and its session is released after it', async () => {
  const link = new MemoryLink();
  link.publish(1, small(1));
  const model = await open(link);
  const begun = Array.from({ length: 50 }, () => model.predict(input()));
  link.publish(2, small(2));
  await until(() => model.version === 2);
  expect(new Set((await Promise.all(begun)).map(({ version }) => version))).toEqual(new Set([1]));
});

test('a model whose thread ended is loaded again, and never takes another model for itself', async () => {
  const threads: Worker[] = [];
  const take = (worker: Worker): void => void threads.push(worker);
  process.on('worker', take);
  const links = [new MemoryLink(), new MemoryLink()];
  links.forEach((link, index) => link.publish(1, small(1), all(index + 1)));
  const engine = new OrtEngine();
  const opened = await Promise.all(
    links.map(async (link) => {
      const client = await connectOn({ ...withEngine(() => engine), openLink: () => link }, '', {});
      clients.push(client);
      return client.model('m');
    }),
  );
  process.off('worker', take);
  const swaps = record(opened[1]!, 'version');
  await threads[0]!.terminate();
  // The second is loaded into the new thread first, so that its number there is what the first had.
  await expect(opened[1]!.predict(input())).rejects.toThrow('the inference worker ended');
  await until(() => swaps.length === 2);
  expect(swaps[1]).toEqual({ from: 1, to: 1, reason: 'reloaded' });
  await expect(opened[0]!.predict(input())).rejects.toThrow('the inference worker ended');
  const logits = async (model: Model): Promise<unknown> => (await model.predict(input())).outputs['logits']?.data;
  await expect.poll(() => logits(opened[0]!).catch(() => undefined)).toEqual(new Float32Array([11, 11, 11]));
  expect(await logits(opened[1]!)).toEqual(new Float32Array([22, 22, 22]));
});

test('closing lets running predictions finish and refuses new ones', async () => {
  const link = new MemoryLink();
  link.publish(1, small(1));
  const model = await open(link);
  const begun = Array.from({ length: 20 }, () => model.predict(input()));
  const closed = clients.splice(0)[0]?.close();
  await expect(model.predict(input())).rejects.toThrow(/closed/);
  expect(await Promise.all(begun)).toHaveLength(20);
  await closed;
});

test('a version that gives no finite numbers never serves and counts as superseded', async () => {
  const link = new MemoryLink();
  link.publish(1, small(1));
  const model = await open(link);
  const [errors, superseded] = [record(model, 'error'), record(model, 'superseded')];
  link.publish(2, small(2), all(Number.NaN));
  await until(() => errors.length === 1);
  expect(errors[0]?.message).toBe("version 2 of 'm' failed its warm-up: output 'logits' is not finite");
  expect((await model.predict(input())).version).toBe(1);
  if (link.newest !== undefined) link.announce(link.newest);
  link.publish(3, small(3));
  await until(() => model.version === 3);
  expect(errors).toHaveLength(1);
  expect(superseded).toEqual([{ version: 2 }]);
});

test('a version with another contract does not break the app', async () => {
  const link = new MemoryLink();
  link.publish(1, small(1));
  const model = await open(link);
  const errors = record(model, 'error');
  link.publish(2, logistic({ inputs: 5, outputs: 3, seed: 1 }));
  await until(() => errors.length === 1);
  expect(errors[0]?.message).toMatch(/would break this app: input 'input' was float\[\?, 4\] and is float\[\?, 5\]/);
  expect(model.version).toBe(1);
});

test('an older version, another key and a changed manifest are not believed', async () => {
  const link = new MemoryLink();
  link.publish(1, small(1));
  const old = link.newest;
  link.publish(2, small(2));
  const model = await open(link);
  const errors = record(model, 'error');
  if (old !== undefined) link.announce(old);
  await until(() => errors.length > 0);
  expect(errors.pop()).toEqual(new TrustError("version 1 of 'm' was offered after version 2; it is not taken"));

  if (old === undefined || link.newest === undefined) throw new Error('both were published');
  link.announce({ ...link.newest, manifest: old.manifest });
  await until(() => errors.length > 0);
  expect(errors.pop()?.message).toMatch(/wrong signature/);

  link.changeKey();
  link.publish(3, small(3));
  await until(() => errors.length > 0);
  expect(errors.pop()?.message).toMatch(/signs with key .* is trusted/);
  expect(model.version).toBe(2);
});

test('a refused release that comes again and again does not keep newer ones out', async () => {
  const link = new MemoryLink();
  link.publish(1, small(1));
  const old = link.newest;
  link.publish(2, small(2));
  const model = await open(link);
  const errors = record(model, 'error');
  for (let time = 1; time <= 3; time += 1) {
    link.announce(old!);
    await until(() => errors.length === 1);
    await sleep(5);
  }
  expect(errors).toHaveLength(1);
  link.publish(3, small(3));
  await until(() => model.version === 3);
});

test('an app starts offline from its cache and catches up later', async () => {
  const cacheDir = await mkdtemp(join(tmpdir(), 'cw-cache-'));
  const link = new MemoryLink();
  for (const version of [1, 2, 3]) {
    link.publish(version, small(version), all(version));
    const model = await open(link, cacheDir);
    await until(() => model.version === version);
    await closeAll();
  }
  // One graph, and the weights of the last two versions.
  expect(await readdir(join(cacheDir, 'models', 'm', 'blobs'))).toHaveLength(3);

  link.online = false;
  const model = await open(link, cacheDir);
  expect(record(model, 'version')).toEqual([{ from: undefined, to: 3, reason: 'current' }]);
  expect((await model.predict(input())).outputs['logits']?.data).toEqual(new Float32Array([33, 33, 33]));
  link.online = true;
  const superseded = record(model, 'superseded');
  link.publish(6, small(6), all(6));
  await until(() => model.version === 6);
  expect(superseded).toEqual([{ version: 4 }, { version: 5 }]);
});

test('a damaged cache is not served: the coordinator is asked', async () => {
  const cacheDir = await mkdtemp(join(tmpdir(), 'cw-cache-'));
  const link = new MemoryLink();
  link.publish(1, small(1), all(1));
  await open(link, cacheDir);
  await closeAll();
  const blobs = join(cacheDir, 'models', 'm', 'blobs');
  for (const name of await readdir(blobs)) await writeFile(join(blobs, name), 'damaged');
  link.downloads = 0;
  const model = await open(link, cacheDir);
  expect((await model.predict(input())).outputs['logits']?.data).toEqual(new Float32Array([11, 11, 11]));
  expect(link.downloads).toBe(2);
});

test('a model that does not exist is an error at once', async () => {
  await expect(open(new MemoryLink())).rejects.toThrow("the coordinator has no model 'm'; import it first");
});

test('a listener that throws does not keep others from hearing', async () => {
  const link = new MemoryLink();
  link.publish(1, small(1));
  const model = await open(link);
  const errors = record(model, 'error');
  model.on('version', ({ to }) => {
    if (to === 2) throw new Error('oops');
  });
  const heard = record(model, 'version');
  link.publish(2, small(2));
  await until(() => heard.length === 2);
  expect(errors.map(({ message }) => message)).toEqual(["a listener of 'version' threw: oops"]);
});

test('a model that hears nothing says that it is stale', async () => {
  const cacheDir = await mkdtemp(join(tmpdir(), 'cw-cache-'));
  const link = new MemoryLink();
  link.publish(1, small(1));
  await open(link, cacheDir);
  await closeAll();
  link.online = false;
  const model = await open(link, cacheDir, { staleAfterMs: 20 });
  const stale = record(model, 'stale');
  await until(() => stale.length === 1);
  expect(stale[0]?.version).toBe(1);
  expect(record(model, 'stale')).toHaveLength(1);
});

test('several inputs are predicted in one run by one version, each with its own answer and id', async () => {
  const link = new MemoryLink();
  link.publish(1, small(1), all(1));
  const model = await open(link, undefined, { feedback: true });
  const answers = await model.predictBatch([
    { input: [1, 0, 0, 0] },
    { input: new Float32Array(8).fill(1) },
    { input: [[2, 0, 0, 0]] },
  ]);
  expect(
    answers.map(({ outputs, version }) => [version, [...outputs['logits']!.data], outputs['logits']!.dims]),
  ).toEqual([
    [1, [2, 2, 2], [1, 3]],
    [1, [5, 5, 5, 5, 5, 5], [2, 3]],
    [1, [3, 3, 3], [1, 3]],
  ]);
  expect(model.uses.take().uses).toMatchObject([{ predictions: 1n }]);
  await model.feedback(answers[1]!.id, { labels: [0, 1] });
  await model.feedback(answers[2]!.id, { label: 2 });
  expect(await model.predictBatch([])).toEqual([]);
  await expect(model.predictBatch([{ input: [1, 2] }, { input: [1, 2, 3, 4] }])).rejects.toThrow(
    /2 values are not a multiple of 4/,
  );
  await expect(model.predictBatch(Array.from({ length: 4097 }, () => ({ input: [1, 2, 3, 4] })))).rejects.toThrow(
    /4097 rows are too many/,
  );
});

test('an image is what the contract of the model takes, from pixels and from a file', async () => {
  const link = new MemoryLink();
  link.publish(1, logistic({ inputs: 4, outputs: 3, seed: 1 }), all(1));
  const model = await open(link);
  const white = { width: 20, height: 20, data: new Uint8ClampedArray(1600).fill(255) };
  const logit = async (input: InputValue): Promise<number> => {
    const { outputs } = await model.predict({ input });
    return Number(outputs['logits']?.data[0]);
  };
  // Four values of 1, and the bias.
  expect(await logit(white)).toBe(5);
  expect(await logit({ image: white, mean: 1 })).toBe(1);
  const folder = await mkdtemp(join(tmpdir(), 'cw-image-'));
  const path = join(folder, 'white.png');
  await sharp(Buffer.from(white.data), { raw: { width: 20, height: 20, channels: 4 } })
    .png()
    .toFile(path);
  expect(await logit({ image: path })).toBe(5);
  const { outputs } = await model.predict({ input: [{ image: path }, white] });
  expect(outputs['logits']?.dims).toEqual([2, 3]);
  await expect(model.predict({ input: { image: join(folder, 'none.png') } })).rejects.toThrow(
    /no image can be read from/,
  );
});

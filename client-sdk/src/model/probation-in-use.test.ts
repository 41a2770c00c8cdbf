import { logistic, type ModelProto } from '@commonweight/core';
import { afterAll, afterEach, expect, test } from 'vitest';
import { MemoryLink } from '../../../test/support/memory-link.ts';
import { withEngine } from '../../../test/support/with-engine.ts';
import { connectOn, type Client } from '../client.ts';
import { sleep } from '../connection/backoff.ts';
import type { Platform } from '../platform/platform.ts';
import { MemoryStorage, readText, type Storage } from '../platform/storage.ts';
import type { Engine, Session } from '../runtime/engine.ts';
import { OrtEngine } from '../runtime/ort-engine.ts';
import type { TypedTensor } from '../runtime/tensor.ts';
import type { ModelEvents } from './events.ts';
import type { ModelOptions } from './life.ts';
import type { Model } from './model.ts';

const ort = new OrtEngine();
afterAll(() => ort.close());

type Run = Session['run'];

/** ONNX Runtime, with something done to what the n-th loaded model answers. */
class OddEngine implements Engine {
  readonly name = 'ort-cpu';
  loads = 0;
  released = 0;
  readonly #odd: (run: Run, nth: number) => Run;

  constructor(odd: (run: Run, nth: number) => Run = (run) => run) {
    this.#odd = odd;
  }

  runtime(): Promise<string> {
    return ort.runtime();
  }

  async load(onnx: Uint8Array): Promise<Session> {
    const session = await ort.load(onnx);
    const run = this.#odd((feeds) => session.run(feeds), (this.loads += 1));
    return {
      run,
      release: async () => {
        this.released += 1;
        await session.release();
      },
    };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

const clients: Client[] = [];
const closeAll = async (): Promise<void> => void (await Promise.all(clients.splice(0).map((client) => client.close())));
afterEach(closeAll);

const platformOf = (link: MemoryLink, engine: Engine, storage: Storage): Platform => ({
  ...withEngine(() => engine),
  openLink: () => link,
  openStorage: () => storage,
});

async function open(
  link: MemoryLink,
  engine: Engine,
  options: ModelOptions = {},
  storage: Storage = new MemoryStorage(),
): Promise<Model> {
  const client = await connectOn(platformOf(link, engine, storage), '', { readyTimeoutMs: 5000, ...options });
  clients.push(client);
  return client.model('m');
}

const small = (): ModelProto => logistic({ inputs: 4, outputs: 3, seed: 1 });
const all = (value: number) => (weights: Float32Array) => void weights.fill(value);
const input = (scale = 1): { input: Float32Array } => ({ input: new Float32Array([1, 2, 3, 4]).map((x) => x * scale) });
const until = (isSo: () => boolean): Promise<void> => expect.poll(isSo, { interval: 5 }).toBe(true);

function record<Name extends keyof ModelEvents>(model: Model, name: Name): ModelEvents[Name][] {
  const events: ModelEvents[Name][] = [];
  model.on(name, (event) => events.push(event));
  return events;
}

async function twoVersions(engine: Engine, options: ModelOptions = {}, storage?: Storage): Promise<Model> {
  const link = new MemoryLink();
  link.publish(1, small(), all(1));
  const model = await open(link, engine, options, storage);
  link.publish(2, small(), all(2));
  await until(() => model.version === 2);
  return model;
}

test('a version that lives through its probation is committed, and the one before is let go of', async () => {
  const engine = new OddEngine();
  const link = new MemoryLink();
  link.publish(1, small(), all(1));
  const model = await open(link, engine, { probation: { probationMs: 30 } });
  const committed = record(model, 'committed');
  link.publish(2, small(), all(2));
  await until(() => committed.some(({ version }) => version === 2));
  await until(() => engine.released === 1);
  expect(model.version).toBe(2);
});

test('while a version is on probation the one before stays loaded', async () => {
  const engine = new OddEngine();
  await twoVersions(engine);
  expect(engine.released).toBe(0);
});

test('a prediction that fails on probation is answered by the version before, which serves again', async () => {
  let runs = 0;
  const engine = new OddEngine(
    (run, nth) => (feeds) =>
      // The warm-up works.
      nth === 2 && (runs += 1) > 1 ? Promise.reject(new Error('out of memory')) : run(feeds),
  );
  const model = await twoVersions(engine);
  const reverted = record(model, 'reverted');
  const answers = await Promise.all(Array.from({ length: 8 }, () => model.predict(input())));
  expect(new Set(answers.map(({ version }) => version))).toEqual(new Set([1]));
  expect(reverted).toEqual([{ from: 2, to: 1, reason: 'a prediction failed: out of memory' }]);
});

test('numbers that are none on probation are answered by the version before, unless it would say the same', async () => {
  const model = await twoVersions(
    new OddEngine((run, nth) => async (feeds: Record<string, TypedTensor>) => {
      // Version 2 cannot take what is large; both cannot take what is larger.
      const largest = Math.max(...(Object.values(feeds)[0]?.data as Float32Array));
      const outputs = await run(feeds);
      const limit = nth === 2 ? 100 : 1e6;
      return largest < limit
        ? outputs
        : { logits: { ...outputs['logits']!, data: new Float32Array(3).fill(Infinity) } };
    }),
  );
  const reverted = record(model, 'reverted');
  expect((await model.predict(input(1e7))).version).toBe(2);
  expect(reverted).toEqual([]);
  const { outputs, version } = await model.predict(input(100));
  expect([version, outputs['logits']?.data[0]]).toEqual([1, 1001]);
  expect(reverted).toEqual([{ from: 2, to: 1, reason: "output 'logits' is not finite" }]);
});

test('a version that takes many times as long is taken back', async () => {
  const engine = new OddEngine((run, nth) => async (feeds) => {
    if (nth === 2) await sleep(60);
    return run(feeds);
  });
  const link = new MemoryLink();
  link.publish(1, small(), all(1));
  const model = await open(link, engine, { probation: { predictionsMin: 5, latencyFactorMax: 3, latencyFloorMs: 20 } });
  const reverted = record(model, 'reverted');
  for (let i = 0; i < 40; i += 1) await model.predict(input());
  link.publish(2, small(), all(2));
  await until(() => model.version === 2);
  for (let i = 0; i < 5; i += 1) await model.predict(input());
  await until(() => reverted.length === 1);
  expect(reverted[0]?.reason).toMatch(/^its predictions take \d+\.\d ms \(p95\), those of the version before took/);
});

test('where versions come faster than a probation lasts, one goes back to the last that answered', async () => {
  const engine = new OddEngine();
  const link = new MemoryLink();
  const storage = new MemoryStorage();
  link.publish(1, small(), all(1));
  const model = await open(link, engine, {}, storage);
  const [reverted, committed] = [record(model, 'reverted'), record(model, 'committed')];
  for (const version of [2, 3, 4, 5]) {
    link.publish(version, small(), all(version));
    await until(() => model.version === version);
    // Versions 4 and 5 answer nothing.
    if (version < 4) await model.predict(input());
  }
  expect(committed.map(({ version }) => version)).toEqual([1, 2, 3]);
  expect(engine.released).toBe(3);
  await model.reportFailure('wrong');
  expect(reverted).toEqual([{ from: 5, to: 3, reason: 'the app said: wrong' }]);
  await closeAll();
  link.online = false;
  expect((await open(link, engine, {}, storage)).version).toBe(3);
});

test('a committed version that the app calls bad makes way for the one on disk', async () => {
  const model = await twoVersions(new OddEngine(), { probation: { probationMs: 0 } });
  await model.reportFailure('wrong');
  expect((await model.predict(input())).outputs['logits']?.data[0]).toBe(11);
});

test('where there is none before it, a version that is called bad goes on serving, and that is said', async () => {
  const link = new MemoryLink();
  link.publish(1, small(), all(1));
  const model = await open(link, new OddEngine());
  const errors = record(model, 'error');
  await model.reportFailure('wrong');
  expect(errors[0]?.message).toMatch(
    /version 1 of 'm' is bad .*, and there is none before it on disk; it goes on serving/,
  );
  expect((await model.predict(input())).version).toBe(1);
});

test('a release that ends the process twice while it is activated is not tried a third time', async () => {
  const storage = new MemoryStorage();
  const link = new MemoryLink();
  link.publish(1, small(), all(1));
  await open(link, new OddEngine(), {}, storage);
  await closeAll();
  // A process that dies in the middle of a load does nothing any more.
  const deadly = new DeadlyEngine();
  const tries = async (): Promise<string | undefined> => await readText(storage, 'models/m/activating');
  for (let crash = 1; crash <= 2; crash += 1) {
    void (await connectOn(platformOf(link, deadly, storage), '', {})).model('m');
    await expect.poll(tries, { interval: 5 }).toContain(`"tries":${crash}`);
  }
  link.online = false;
  await expect(open(link, new OddEngine(), { readyTimeoutMs: 50 }, storage)).rejects.toThrow(/could not be had/);
  expect(JSON.parse((await readText(storage, 'models/m/quarantine')) ?? '')).toMatchObject([
    { version: 1, reason: "version 1 of 'm' ended the process while it was being activated, twice" },
  ]);
  link.online = true;
  link.publish(2, small(), all(2));
  expect((await open(link, new OddEngine(), {}, storage)).version).toBe(2);
});

class DeadlyEngine extends OddEngine {
  override load(): Promise<Session> {
    return new Promise(() => {});
  }
}

test('a quota that holds two releases lets the oldest go; one that does not refuses the newer', async () => {
  const bytes = 60;
  const link = new MemoryLink();
  link.publish(1, small(), all(1));
  const graph = Number(link.sizes.at(-1)?.graph);
  const storage = new MemoryStorage();
  const model = await open(link, new OddEngine(), { diskBytesMax: graph + 2 * bytes }, storage);
  for (const version of [2, 3]) {
    link.publish(version, small(), all(version));
    await until(() => model.version === version);
  }
  expect(await storage.list('models/m/blobs')).toHaveLength(3);
  await closeAll();
  const tight = await open(link, new OddEngine(), { diskBytesMax: graph + 2 * bytes - 1 }, storage);
  const errors = record(tight, 'error');
  link.publish(4, small(), all(4));
  await until(() => errors.length > 0);
  expect(errors[0]?.message).toMatch(/need \d+ bytes on disk, and diskBytesMax is/);
  expect(tight.version).toBe(3);
});

/** A disk on which nothing more happens after a number of writes and deletions, as when the process is killed. */
class MortalStorage implements Storage {
  readonly #disk: Storage;
  #left: number;
  onEnd: () => void = () => {};

  constructor(disk: Storage, operations: number) {
    this.#disk = disk;
    this.#left = operations;
  }

  #lives<T>(deed: () => Promise<T>): Promise<T> {
    this.#left -= 1;
    if (this.#left >= 0) return deed();
    this.onEnd();
    return new Promise<T>(() => {});
  }

  read = (path: string): Promise<Uint8Array | undefined> => this.#disk.read(path);
  list = (folder: string): Promise<string[]> => this.#disk.list(folder);
  where = (path: string): string => this.#disk.where(path);
  write = (path: string, bytes: Uint8Array): Promise<void> => this.#lives(() => this.#disk.write(path, bytes));
  remove = (path: string): Promise<void> => this.#lives(() => this.#disk.remove(path));
}

test('whenever the process is killed, what is on disk starts without a network', async () => {
  let [operations, isWhole] = [0, false];
  for (; !isWhole; operations += 1) {
    const disk = new MemoryStorage();
    const link = new MemoryLink();
    link.publish(1, small(), all(1));
    await open(link, new OddEngine(), {}, disk);
    await closeAll();

    const storage = new MortalStorage(disk, operations);
    const platform = platformOf(link, new OddEngine(), storage);
    const life = async (): Promise<boolean> => {
      const model = await (await connectOn(platform, '', {})).model('m');
      for (const version of [2, 3]) {
        link.publish(version, small(), all(version));
        await until(() => model.version === version);
      }
      await model.reportFailure('wrong');
      return true;
    };
    const ended = Promise.withResolvers<boolean>();
    storage.onEnd = () => ended.resolve(false);
    // Abandoned, not closed: a killed process closes nothing.
    isWhole = await Promise.race([life(), ended.promise]);

    link.online = false;
    const model = await open(link, new OddEngine(), {}, disk);
    const { outputs, version } = await model.predict(input());
    expect(outputs['logits']?.data[0]).toBe(11 * version);
    link.online = true;
    await closeAll();
  }
  // Otherwise nothing was killed.
  expect(operations).toBeGreaterThan(15);
});

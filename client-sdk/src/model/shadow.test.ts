import { logistic, type ModelProto } from '@commonweight/core';
import type { ShadowUse } from '@commonweight/proto';
import { afterAll, afterEach, expect, test } from 'vitest';
import { MemoryLink } from '../../../test/support/memory-link.ts';
import { withEngine } from '../../../test/support/with-engine.ts';
import { connectOn, type Client, type ConnectOptions } from '../client.ts';
import { sleep } from '../connection/backoff.ts';
import type { Engine, Session } from '../runtime/engine.ts';
import { OrtEngine } from '../runtime/ort-engine.ts';
import type { ModelOptions } from './life.ts';
import type { Model } from './model.ts';
import type { ShadowOptions } from './shadow.ts';

const ort = new OrtEngine();
afterAll(() => ort.close());
const clients: Client[] = [];
afterEach(async () => void (await Promise.all(clients.splice(0).map((client) => client.close()))));

type Odd = (session: Session) => Session;

/** The first engine of a client serves; the second is that of its shadow. */
async function open(
  link: MemoryLink,
  shadow: boolean | ShadowOptions,
  { odd = (session) => session, ...connecting }: ConnectOptions & { odd?: Odd } = {},
  options: ModelOptions = {},
): Promise<Model> {
  let engines = 0;
  const openEngine = (): Engine => {
    const isShadow = (engines += 1) > 1;
    return {
      name: 'ort-cpu',
      runtime: () => ort.runtime(),
      load: async (onnx) => (isShadow ? odd(await ort.load(onnx)) : await ort.load(onnx)),
      close: () => Promise.resolve(),
    };
  };
  const platform = { ...withEngine(openEngine), openLink: () => link };
  const client = await connectOn(platform, '', { readyTimeoutMs: 10_000, clientId: 'c', ...connecting });
  clients.push(client);
  return client.model('m', { channel: 'stable', shadow, ...options });
}

const small = (): ModelProto => logistic({ inputs: 4, outputs: 3, seed: 1 });
/** Logits whose largest is the first or the last. */
const pointing = (first: boolean) => (weights: Float32Array) => {
  weights.fill(0);
  const biases = weights.subarray(weights.length - 3);
  biases.set(first ? [10, 1, 0] : [8, 1, 10]);
};
const input = (): { input: Float32Array } => ({ input: new Float32Array([1, 2, 3, 4]) });

/** What was counted of shadows, added up over a test. */
function shadows(model: Model): () => ShadowUse | undefined {
  let all: ShadowUse | undefined;
  return () => {
    for (const use of model.uses.take().shadows) {
      all =
        all === undefined
          ? use
          : {
              ...use,
              predictions: all.predictions + use.predictions,
              errors: all.errors + use.errors,
              rows: all.rows + use.rows,
              agreeing: all.agreeing + use.agreeing,
            };
    }
    return all;
  };
}

async function predicting(model: Model, isEnough: () => boolean): Promise<void> {
  for (let i = 0; !isEnough(); i += 1) {
    if (i > 10_000) throw new Error('predicted in vain');
    await model.predict(input());
    await sleep(5);
  }
}

test('the version of a rollout that an app is not in predicts beside its own, and how far they are apart is counted', async () => {
  const link = new MemoryLink();
  link.publish(1, small(), pointing(true));
  link.publish(2, small(), pointing(false));
  link.say(1, 1, { rollout: { version: 2, percent: 100, cohorts: [{ key: 'site', value: 'elsewhere' }] } });
  const model = await open(link, true);
  const said = shadows(model);
  await predicting(model, () => (said()?.rows ?? 0n) >= 5n);
  expect([model.version, model.shadowVersion]).toEqual([1, 2]);
  // 8 for 10, 1 for 1, 10 for 0: the last is off by 10 of 10.
  expect(said()).toMatchObject({ version: 2n, champion: 1n, errors: 0n, agreeing: 0n, differenceMax: 1 });
  expect((await model.predict(input())).outputs['logits']?.data[0]).toBe(10);
  // The rollout ends, and with it the shadow.
  link.say(2, 1);
  await expect.poll(() => model.shadowVersion, { timeout: 20_000 }).toBeUndefined();
});

test('an app that is in the rollout has nothing beside it', async () => {
  const link = new MemoryLink();
  link.publish(1, small(), pointing(true));
  link.publish(2, small(), pointing(false));
  link.say(1, 1, { rollout: { version: 2, percent: 100 } });
  const model = await open(link, true);
  await predicting(model, () => model.version === 2);
  await sleep(200);
  expect([model.version, model.shadowVersion]).toEqual([2, undefined]);
});

test('the version of another channel predicts beside, here the newest', async () => {
  const link = new MemoryLink();
  link.publish(1, small(), pointing(true));
  link.say(1, 1);
  const model = await open(link, { channel: 'latest' });
  await sleep(100);
  const said = shadows(model);
  link.publish(2, small(), pointing(true));
  await predicting(model, () => (said()?.rows ?? 0n) >= 3n);
  expect(said()).toMatchObject({ version: 2n, champion: 1n, differenceMax: 0 });
  expect(said()?.agreeing).toBe(said()?.rows);
  link.publish(3, small(), pointing(false));
  await expect.poll(() => model.shadowVersion, { timeout: 20_000 }).toBe(3);
});

test('what a shadow does is nothing to the app: slow, failing or hanging, its predictions are as ever', async () => {
  const link = new MemoryLink();
  link.publish(1, small(), pointing(true));
  link.publish(2, small(), pointing(false));
  link.say(1, 1);
  for (const run of [() => Promise.reject(new Error('no')), () => new Promise<never>(() => {})]) {
    let runs = 0;
    const odd: Odd = (session) => ({
      ...session,
      // Its warm-up is well.
      run: (feeds) => ((runs += 1) > 1 ? run() : session.run(feeds)),
    });
    const model = await open(link, { channel: 'latest' }, { odd });
    await expect.poll(() => model.shadowVersion, { timeout: 20_000 }).toBe(2);
    for (let i = 0; i < 50; i += 1) expect((await model.predict(input())).version).toBe(1);
    await expect.poll(() => runs, { timeout: 20_000 }).toBeGreaterThan(1);
    // Of one that hangs no second prediction is made, and one that fails is left alone.
    expect(runs).toBe(2);
  }
});

test('a shadow rests for as long as its share of the processor needs', async () => {
  const link = new MemoryLink();
  link.publish(1, small(), pointing(true));
  link.publish(2, small(), pointing(true));
  link.say(1, 1);
  let runs = 0;
  const odd: Odd = (session) => ({
    ...session,
    run: async (feeds) => {
      runs += 1;
      await sleep(50);
      return session.run(feeds);
    },
  });
  const model = await open(link, { channel: 'latest', cpuShareMax: 0.1 }, { odd });
  await expect.poll(() => model.shadowVersion, { timeout: 20_000 }).toBe(2);
  const before = runs;
  const startMs = performance.now();
  while (performance.now() - startMs < 2000) await model.predict(input()).then(() => sleep(1));
  // 50 ms of work want 450 ms of rest, so four or five in two seconds; one that never rests makes forty.
  expect(runs - before).toBeLessThanOrEqual(6);
});

test('a version that does not load, is too large or has another contract predicts beside nobody, and the app hears of it', async () => {
  const link = new MemoryLink();
  link.publish(1, small(), pointing(true));
  link.say(1, 1);
  link.publish(2, small(), (weights) => void weights.fill(Number.NaN));
  const model = await open(link, { channel: 'latest' });
  const errors: string[] = [];
  model.on('error', ({ message }) => errors.push(message));
  link.publish(3, logistic({ inputs: 5, outputs: 3, seed: 1 }));
  await expect.poll(() => model.shadowVersion, { timeout: 20_000 }).toBe(3);
  for (let i = 0; i < 20; i += 1) await model.predict(input());
  expect(model.uses.take().shadows).toEqual([]);
  const tiny = await open(link, { channel: 'latest', memoryBytesMax: 10 });
  tiny.on('error', ({ message }) => errors.push(message));
  link.publish(4, small(), pointing(true));
  await expect
    .poll(() => errors.join('\n'), { timeout: 20_000 })
    .toMatch(/version 4 of 'm' does not predict beside any more: it would take more than 10 bytes/);
});

test('what is to predict beside has to be said, and be another channel', async () => {
  const link = new MemoryLink();
  link.publish(1, small());
  link.say(1, 1);
  await expect(open(link, true, {}, { channel: 'latest' })).rejects.toThrow(/what is to predict beside channel latest/);
  await expect(open(link, { channel: 'stable' })).rejects.toThrow(/what is to predict beside channel stable/);
  await expect(open(link, { channel: 'latest', share: 0 })).rejects.toThrow('shadow.share is a number above 0');
});

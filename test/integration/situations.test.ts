// What an app's SDK does in each situation that a release can get into (docs/sdk.md), over every link.
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import {
  connect,
  type Client,
  type ConnectOptions,
  type Model,
  type ModelEvents,
  type ModelOptions,
} from '@commonweight/client-sdk';
import { logistic, mlp } from '@commonweight/core';
import { toBinary, create } from '@bufbuild/protobuf';
import { ManifestSchema, SignedManifestSchema } from '@commonweight/proto';
import { afterEach, beforeAll, beforeEach, describe, expect, test, afterAll } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { listening, natsServer, sourceProgram, temporaryFolder, until, type Program } from '../support/processes.ts';
import { Publisher } from '../support/publisher.ts';

let nats: Program;
let ports: { grpc: number; http: number; nats: number };
let publisher: Publisher;
const clients: Client[] = [];

beforeAll(async () => {
  ports = { grpc: await freePort(), http: await freePort(), nats: await freePort() };
  nats = natsServer(ports.nats);
  await listening(ports.nats, nats);
});
afterAll(() => nats.end('SIGTERM'));

beforeEach(async () => void (publisher = await Publisher.open(ports)));
const closeClients = async (): Promise<void> =>
  void (await Promise.all(clients.splice(0).map((client) => client.close())));
afterEach(async () => {
  await closeClients();
  await publisher.close();
});

const small = (seed: number) => logistic({ inputs: 4, outputs: 3, seed });
const all = (value: number) => ({ change: (weights: Float32Array) => void weights.fill(value) });
const input = (): { input: Float32Array } => ({ input: new Float32Array([1, 2, 3, 4]) });

describe.each([
  ['grpc', () => `grpc://127.0.0.1:${ports.grpc}`],
  ['nats', () => `nats://127.0.0.1:${ports.nats}`],
  ['http', () => `http://127.0.0.1:${ports.http}`],
])('over %s', (kind, url) => {
  const open = async (connecting: ConnectOptions = {}, options: ModelOptions = {}): Promise<Model> => {
    const client = await connect(url(), { readyTimeoutMs: 10_000, ...connecting });
    clients.push(client);
    return client.model('m', options);
  };
  /** What a model tells, in the order in which it does; progress is left out. */
  const heard = (model: Model): [keyof ModelEvents, unknown][] => {
    const events: [keyof ModelEvents, unknown][] = [];
    const names = [
      'version',
      'committed',
      'reverted',
      'quarantined',
      'incompatible',
      'superseded',
      'error',
      'stale',
    ] as const;
    for (const name of names) model.on(name, (event) => events.push([name, event]));
    return events;
  };
  const value = async (model: Model): Promise<number> =>
    Number((await model.predict(input())).outputs['logits']?.data[0]) / 11;

  test('a blob that comes damaged is fetched again, and the version serves', async () => {
    publisher.publish(1, small(1), all(1));
    const model = await open();
    let times = 0;
    publisher.damage = (data) => ((times += 1) <= 1 ? data.map((byte) => byte ^ 1) : data);
    publisher.publish(2, small(1), all(2));
    await until('version 2', 20_000, () => model.version === 2);
    expect(await value(model)).toBe(2);
  });

  test('a blob that stays damaged is quarantined, and what served goes on serving', async () => {
    publisher.publish(1, small(1), all(1));
    const model = await open();
    const events = heard(model);
    publisher.damage = (data) => data.map((byte) => byte ^ 1);
    publisher.publish(2, small(1), all(2));
    await until('the quarantine', 30_000, () => events.some(([name]) => name === 'quarantined'));
    expect(events.find(([name]) => name === 'quarantined')?.[1]).toMatchObject({
      version: 2,
      reason: expect.stringMatching(/^digest-mismatch: blob .* came damaged 3 times/) as string,
    });
    expect(await value(model)).toBe(1);
    publisher.damage = (data) => data;
    publisher.publish(3, small(1), all(3));
    await until('version 3', 20_000, () => model.version === 3);
  });

  test('a wrong signature, a lower version and a wrong length are refused, and what served goes on serving', async () => {
    const old = publisher.publish(1, small(1), all(1)).signed;
    publisher.publish(2, small(1), all(2));
    const model = await open();
    const events = heard(model);
    const errors = (): string[] =>
      events.flatMap(([name, event]) => (name === 'error' ? [(event as Error).message] : []));
    const forged = toBinary(ManifestSchema, create(ManifestSchema, { model: 'm', version: 9n }));
    publisher.announce({ ...old, manifest: forged });
    await until('the forged one', 10_000, () => errors().some((text) => /wrong signature/.test(text)));
    publisher.announce(old);
    await until('the old one', 10_000, () => errors().some((text) => /offered after version 2/.test(text)));
    publisher.publish(3, small(1), { ...all(3), sizeError: 1n });
    await until('the wrong length', 10_000, () => errors().some((text) => /is not the \d+ bytes/.test(text)));
    expect([model.version, await value(model)]).toEqual([2, 2]);
    expect(events.filter(([name]) => !['error', 'version', 'committed'].includes(name))).toEqual([]);
    publisher.publish(4, small(1), all(4));
    await until('version 4', 10_000, () => model.version === 4);
  });

  const large = mlp({ inputs: 4, hidden: [64, 64], outputs: 3, seed: 1 });
  const LARGE_BYTES = 4 * (4 * 64 + 64 + 64 * 64 + 64 + 64 * 3 + 3);
  const moved = (by: number) => ({
    change: (weights: Float32Array) => weights.forEach((weight, i) => (weights[i] = weight + by * Math.cos(i))),
  });

  test('a version that is a step from the last comes as its delta, and who was away takes several', async () => {
    const cacheDir = temporaryFolder('deltas');
    publisher.publish(1, large, moved(0));
    const model = await open({ cacheDir });
    const events = heard(model);
    const progress: ModelEvents['progress'][] = [];
    model.on('progress', (event) => progress.push(event));
    publisher.bytesRead = 0;
    publisher.publish(2, large, { ...moved(0.001), delta: {} });
    await until('version 2', 20_000, () => model.version === 2);
    const last = progress.at(-1)!;
    expect(last).toMatchObject({ version: 2, bytes: last.bytesTotal });
    expect(last.bytesTotal).toBeLessThan(LARGE_BYTES / 5);
    expect(publisher.bytesRead).toBeLessThan(LARGE_BYTES / 5);
    await closeClients();
    for (const version of [3, 4, 5]) publisher.publish(version, large, { ...moved(version / 1000), delta: {} });
    publisher.bytesRead = 0;
    const again = await open({ cacheDir });
    await until('version 5', 20_000, () => again.version === 5);
    expect(publisher.bytesRead).toBeLessThan(LARGE_BYTES / 2);
    // Who holds nothing fetches it whole, and both have the same.
    publisher.bytesRead = 0;
    const fresh = await open();
    expect(publisher.bytesRead).toBeGreaterThan(LARGE_BYTES);
    expect(await fresh.predict(input())).toEqual(await again.predict(input()));
    expect(events.filter(([name]) => name === 'error')).toEqual([]);
  });

  test('where a delta leads elsewhere the version is fetched whole, and the app hears why', async () => {
    publisher.publish(1, large, moved(0));
    const model = await open();
    const events = heard(model);
    const harm = (bytes: Uint8Array): Uint8Array => bytes.map((byte, i) => (i === 8 ? byte ^ 1 : byte));
    publisher.publish(2, large, { ...moved(0.001), delta: { harm } });
    await until('version 2', 20_000, () => model.version === 2);
    expect(events.find(([name]) => name === 'error')?.[1]).toMatchObject({
      message: "version 2 of 'm' is fetched whole, for its deltas are no use: they lead to other weights",
    });
    await model.predict(input());
  });

  test('a rollback of the server is a higher version with older bytes: it comes from disk', async () => {
    publisher.publish(1, small(1), all(1));
    const model = await open({ cacheDir: temporaryFolder('situations') });
    const events = heard(model);
    publisher.publish(2, small(1), all(2));
    await until('version 2', 10_000, () => model.version === 2);
    publisher.bytesRead = 0;
    publisher.publish(3, small(1), all(1));
    await until('version 3', 10_000, () => model.version === 3);
    expect([publisher.bytesRead, await value(model)]).toEqual([0, 1]);
    expect(events.at(-1)).toEqual(['version', { from: 2, to: 3, reason: 'rollback' }]);
  });

  test('a rollback of a channel is a higher revision with an older version: it comes from disk', async () => {
    for (const version of [1, 2, 3]) publisher.publish(version, small(1), all(version));
    publisher.say(1, 1);
    const model = await open({ cacheDir: temporaryFolder('situations') }, { channel: 'stable' });
    const events = heard(model);
    publisher.say(2, 2);
    await until('version 2', 20_000, () => model.version === 2);
    publisher.bytesRead = 0;
    publisher.say(3, 1);
    await until('version 1', 20_000, () => model.version === 1);
    expect([publisher.bytesRead, await value(model)]).toEqual([0, 1]);
    expect(events.at(-1)).toEqual(['version', { from: 2, to: 1, reason: 'rollback' }]);
  });

  test('records of a channel that are forged, older, expired or mixed are refused, and what served goes on serving', async () => {
    for (const version of [1, 2, 3]) publisher.publish(version, small(1), all(version));
    const old = publisher.say(1, 1);
    publisher.say(2, 2);
    const model = await open({}, { channel: 'stable' });
    const events = heard(model);
    const refused = (what: RegExp): Promise<void> =>
      until(`a refusal like ${what}`, 20_000, () =>
        events.some(([name, event]) => name === 'error' && what.test((event as Error).message)),
      );
    const next = publisher.say(3, 3, { lifetimeMs: -1 });
    await refused(/holds since/);
    publisher.tell(old);
    await refused(/revision 1 of channel stable of 'm' was offered after 3/);
    publisher.tell({ ...next, signature: old.signature });
    await refused(/wrong signature/);
    publisher.say(4, 3, { digestOf: () => new Uint8Array(32).fill(7) });
    await refused(/another manifest than its channel names/);
    expect([model.version, await value(model)]).toEqual([2, 2]);
    publisher.say(5, 3);
    await until('version 3', 20_000, () => model.version === 3);
  });

  test('the version of a rollout serves those whom it names; ended, all have what they had', async () => {
    for (const version of [1, 2]) publisher.publish(version, small(1), all(version));
    publisher.say(1, 1);
    const named = await open({ labels: { site: 'a' } }, { channel: 'stable' });
    const other = await open({ labels: { site: 'b' } }, { channel: 'stable' });
    publisher.say(2, 1, { rollout: { version: 2, percent: 100, cohorts: [{ key: 'site', value: 'a' }] } });
    await until('version 2', 20_000, () => named.version === 2);
    expect([await value(named), await value(other)]).toEqual([2, 1]);
    publisher.say(3, 1);
    await until('version 1', 20_000, () => named.version === 1);
    expect(await value(named)).toBe(1);
  });

  test('a version that the app calls bad is taken back, never tried again, also after a restart', async () => {
    const cacheDir = temporaryFolder('situations');
    publisher.publish(1, small(1), all(1));
    const model = await open({ cacheDir });
    publisher.publish(2, small(1), all(2));
    await until('version 2', 10_000, () => model.version === 2);
    const events = heard(model);
    await model.reportFailure('wrong');
    expect([model.version, await value(model)]).toEqual([1, 1]);
    expect(events.slice(1)).toEqual([
      ['quarantined', { version: 2, reason: 'the app said: wrong' }],
      ['reverted', { from: 2, to: 1, reason: 'the app said: wrong' }],
      ['version', { from: 2, to: 1, reason: 'reverted' }],
    ]);
    await closeClients();
    const again = await open({ cacheDir });
    expect(again.version).toBe(1);
    // The same bytes by another number are the same release; others are not.
    publisher.publish(3, small(1), all(2));
    publisher.publish(4, small(1), all(4));
    await until('version 4', 10_000, () => again.version === 4);
  });

  test('a version that fails the golden check never serves', async () => {
    publisher.publish(1, small(1), all(1));
    const golden = { inputs: input(), outputs: { logits: [11, 11, 11] }, tolerance: 5 };
    const model = await open({}, { golden });
    const events = heard(model);
    publisher.publish(2, small(1), all(2));
    await until('the quarantine', 10_000, () => events.some(([name]) => name === 'quarantined'));
    expect(events.at(-1)?.[1]).toEqual({
      version: 2,
      reason: "version 2 of 'm' failed the golden check: output 'logits' is off by 11, and 5 is allowed",
    });
    expect(model.version).toBe(1);
  });

  test('another contract is incompatible; a wider one serves', async () => {
    publisher.publish(1, small(1), all(1));
    const model = await open();
    const events = heard(model);
    publisher.publish(2, logistic({ inputs: 5, outputs: 3, seed: 1 }));
    await until('the verdict', 10_000, () => events.some(([name]) => name === 'incompatible'));
    expect(model.version).toBe(1);
    publisher.publish(3, mlp({ inputs: 4, hidden: [2], outputs: 3, seed: 1 }));
    await until('version 3', 10_000, () => model.version === 3);
  });

  test('without a network an app starts from its disk, or else from what came with it', async () => {
    const cacheDir = temporaryFolder('situations');
    const { signed, graph, weights } = publisher.publish(1, small(1), all(1));
    const first = await open({ cacheDir });
    expect(first.version).toBe(1);
    await closeClients();
    await publisher.close();
    try {
      const fromDisk = await open({ cacheDir });
      expect([fromDisk.status, await value(fromDisk)]).toEqual(['ready', 1]);
      const bundle = { release: toBinary(SignedManifestSchema, signed), graph, weights };
      const bundled = await open({}, { bootstrap: () => bundle });
      expect([bundled.version, await value(bundled)]).toEqual([1, 1]);
      const damaged = await open({ readyTimeoutMs: 500 }, { bootstrap: () => ({ ...bundle, weights: graph }) }).catch(
        (error: unknown) => error,
      );
      expect(damaged).toMatchObject({ code: 'deadline' });
    } finally {
      publisher = await Publisher.open(ports);
    }
  });

  test('calls under way and versions that are held finish on their version while others are swapped in', async () => {
    publisher.publish(1, small(1), all(1));
    const model = await open();
    const held = model.hold();
    const begun = Array.from({ length: 100 }, () => model.predict(input()));
    for (let version = 2; version <= 5; version += 1) publisher.publish(version, small(1), all(version));
    await until('version 5', 10_000, () => model.version === 5);
    expect(new Set((await Promise.all(begun)).map(({ version }) => version))).toEqual(new Set([1]));
    const { outputs, version } = await held.predict(input());
    expect([version, outputs['logits']?.data[0]]).toEqual([1, 11]);
    held.release();
    await expect(held.predict(input())).rejects.toThrow(/held no more/);
    expect(await value(model)).toBe(5);
  });

  test('without memory for two versions calls wait while one makes way for the next, and none fails', async () => {
    publisher.publish(1, small(1), all(1));
    const model = await open({ memoryBytesMax: 1 });
    const events = heard(model);
    let [done, answers] = [false, new Set<number>()];
    const load = Array.from({ length: 4 }, async () => {
      while (!done) answers.add(await value(model));
    });
    for (const version of [2, 3]) {
      publisher.publish(version, small(1), all(version));
      await until(`version ${version}`, 10_000, () => model.version === version);
    }
    // What cannot be loaded makes way for what was.
    publisher.publish(4, small(1), all(Number.NaN));
    await until('the quarantine', 10_000, () => events.some(([name]) => name === 'quarantined'));
    await until('an answer of 3', 10_000, () => answers.has(3));
    done = true;
    await Promise.all(load);
    expect(model.version).toBe(3);
    expect([...answers].every((one) => [1, 2, 3].includes(one))).toBe(true);
  });

  test('of many versions only the newest is fetched', async () => {
    publisher.publish(1, small(1), all(1));
    const model = await open();
    const events = heard(model);
    for (let version = 2; version <= 40; version += 1) publisher.publish(version, small(1), all(version));
    await until('version 40', 10_000, () => model.version === 40);
    const swaps = events.filter(([name]) => name === 'version').length;
    const passedOver = events.filter(([name]) => name === 'superseded').length;
    expect(swaps + passedOver).toBe(40);
    expect(passedOver).toBeGreaterThan(20);
  });

  test('progress says how much is here of what is not on disk', async () => {
    publisher.publish(1, small(1), all(1));
    const model = await open();
    const progress: ModelEvents['progress'][] = [];
    model.on('progress', (event) => progress.push(event));
    publisher.publish(2, small(1), all(randomInt(2, 1000)));
    await until('version 2', 10_000, () => model.version === 2);
    // The graph is that of version 1: the weights alone are fetched.
    expect(progress.at(-1)).toEqual({ version: 2, bytes: 60, bytesTotal: 60 });
  });

  test('silence is told as stale, and ends with the next word', async () => {
    publisher.publish(1, small(1), all(1));
    const model = await open({ staleAfterMs: 50 });
    const events = heard(model);
    await publisher.stop();
    if (kind === 'nats') await nats.end('SIGKILL');
    await until('stale', 20_000, () => model.status === 'stale');
    expect(events.at(-1)).toMatchObject(['stale', { version: 1 }]);
    expect(await value(model)).toBe(1);
    if (kind === 'nats') {
      nats = natsServer(ports.nats);
      await listening(ports.nats, nats);
    }
    await publisher.start();
    await until('an end of it', 30_000, () => model.status === 'ready');
  });
});

test('an app that is killed at any instant starts from its disk, without a network', async () => {
  const folder = temporaryFolder('killed');
  for (let life = 1; life <= 6; life += 1) {
    const app = sourceProgram('test/support/swap-forever.ts', folder);
    // Some swaps, and then at once: wherever it is in the next one.
    const served = (): number => [...app.output().matchAll(/serves (\d+)/g)].length;
    await until('a few versions', 30_000, () => served() >= life * 2, app.output);
    await app.end('SIGKILL');
    const client = await connect('grpc://127.0.0.1:1', { cacheDir: join(folder, 'cache'), readyTimeoutMs: 1000 });
    clients.push(client);
    const { outputs, version } = await (await client.model('m')).predict(input());
    expect(outputs['logits']?.data[0]).toBe(11 * version);
    await closeClients();
  }
});

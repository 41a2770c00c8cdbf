/**
 * What an app's SDK does in each situation that a release can get into (docs/sdk.md): the same tests over every link, in Node and in a page. A test
 * is named by its situation.
 */
import { randomInt } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import type { ConnectOptions, Inputs, ModelEvents, ModelOptions, Prediction } from '@commonweight/client-sdk';
import { logistic, mlp } from '@commonweight/core';
import { ManifestSchema, SignedManifestSchema } from '@commonweight/proto';
import { expect, test } from 'vitest';
import { temporaryFolder, until } from './processes.ts';
import { Publisher, type Ports } from './publisher.ts';

const WAIT_MS = 90_000;

/** A model as the tests use it, in this process or in a page. */
export interface AppModel {
  readonly version: number | undefined;
  readonly status: string;
  predict(inputs: Inputs): Promise<Prediction>;
  /** Has all predictions begin, and gives what waits for them. */
  begin(inputs: Inputs[]): Promise<() => Promise<Prediction[]>>;
  hold(): Promise<{ predict(inputs: Inputs): Promise<Prediction>; release(): Promise<void> }>;
  on(name: keyof ModelEvents, listener: (event: unknown) => void): Promise<void>;
  reportFailure(reason: string): Promise<void>;
}

/** Apps of one kind, over one link. */
export interface Apps {
  isOverNats: boolean;
  /** A new client that serves model `m`; a `cacheDir` is a name. */
  open(connecting?: ConnectOptions, options?: ModelOptions): Promise<AppModel>;
  /** Closes all that were opened. */
  close(): Promise<void>;
}

/** The servers behind the apps. */
export interface Servers {
  publisher: Publisher;
  ports: Ports;
  startNats(): Promise<void>;
  endNats(): Promise<void>;
}

const small = (seed: number) => logistic({ inputs: 4, outputs: 3, seed });
const all = (value: number) => ({ change: (weights: Float32Array) => void weights.fill(value) });
export const input = (): { input: Float32Array } => ({ input: new Float32Array([1, 2, 3, 4]) });

export function situations(at: Servers, apps: Apps): void {
  /** What a model tells, in the order in which it does; progress is left out. */
  const heard = async (model: AppModel): Promise<[keyof ModelEvents, unknown][]> => {
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
    for (const name of names) await model.on(name, (event) => events.push([name, event]));
    return events;
  };
  const value = async (model: AppModel): Promise<number> =>
    Number((await model.predict(input())).outputs['logits']?.data[0]) / 11;

  test('a blob that comes damaged is fetched again, and the version serves', async () => {
    at.publisher.publish(1, small(1), all(1));
    const model = await apps.open();
    let times = 0;
    at.publisher.damage = (data) => ((times += 1) <= 1 ? data.map((byte) => byte ^ 1) : data);
    at.publisher.publish(2, small(1), all(2));
    await until('version 2', WAIT_MS, () => model.version === 2);
    expect(await value(model)).toBe(2);
  });

  test('a blob that stays damaged is quarantined, and what served goes on serving', async () => {
    at.publisher.publish(1, small(1), all(1));
    const model = await apps.open();
    const events = await heard(model);
    at.publisher.damage = (data) => data.map((byte) => byte ^ 1);
    at.publisher.publish(2, small(1), all(2));
    await until('the quarantine', WAIT_MS, () => events.some(([name]) => name === 'quarantined'));
    expect(events.find(([name]) => name === 'quarantined')?.[1]).toMatchObject({
      version: 2,
      reason: expect.stringMatching(/^digest-mismatch: blob .* came damaged 3 times/) as string,
    });
    expect(await value(model)).toBe(1);
    at.publisher.damage = (data) => data;
    at.publisher.publish(3, small(1), all(3));
    await until('version 3', WAIT_MS, () => model.version === 3);
  });

  test('a wrong signature, a lower version and a wrong length are refused, and what served goes on serving', async () => {
    const old = at.publisher.publish(1, small(1), all(1)).signed;
    at.publisher.publish(2, small(1), all(2));
    const model = await apps.open();
    const events = await heard(model);
    const errors = (): string[] =>
      events.flatMap(([name, event]) => (name === 'error' ? [(event as Error).message] : []));
    const forged = toBinary(ManifestSchema, create(ManifestSchema, { model: 'm', version: 9n }));
    at.publisher.announce({ ...old, manifest: forged });
    await until('the forged one', WAIT_MS, () => errors().some((text) => /wrong signature/.test(text)));
    at.publisher.announce(old);
    await until('the old one', WAIT_MS, () => errors().some((text) => /offered after version 2/.test(text)));
    at.publisher.publish(3, small(1), { ...all(3), sizeError: 1n });
    await until('the wrong length', WAIT_MS, () => errors().some((text) => /is not the \d+ bytes/.test(text)));
    expect([model.version, await value(model)]).toEqual([2, 2]);
    expect(events.filter(([name]) => !['error', 'version', 'committed'].includes(name))).toEqual([]);
    at.publisher.publish(4, small(1), all(4));
    await until('version 4', WAIT_MS, () => model.version === 4);
  });

  const large = mlp({ inputs: 4, hidden: [64, 64], outputs: 3, seed: 1 });
  const LARGE_BYTES = 4 * (4 * 64 + 64 + 64 * 64 + 64 + 64 * 3 + 3);
  const moved = (by: number) => ({
    change: (weights: Float32Array) => weights.forEach((weight, i) => (weights[i] = weight + by * Math.cos(i))),
  });

  test('a version that is a step from the last comes as its delta, and who was away takes several', async () => {
    const cacheDir = temporaryFolder('deltas');
    at.publisher.publish(1, large, moved(0));
    const model = await apps.open({ cacheDir });
    const events = await heard(model);
    const progress: ModelEvents['progress'][] = [];
    await model.on('progress', (event) => progress.push(event as ModelEvents['progress']));
    at.publisher.bytesRead = 0;
    at.publisher.publish(2, large, { ...moved(0.001), delta: {} });
    await until('version 2', WAIT_MS, () => model.version === 2);
    const last = progress.at(-1)!;
    expect(last).toMatchObject({ version: 2, bytes: last.bytesTotal });
    expect(last.bytesTotal).toBeLessThan(LARGE_BYTES / 5);
    expect(at.publisher.bytesRead).toBeLessThan(LARGE_BYTES / 5);
    await apps.close();
    for (const version of [3, 4, 5]) at.publisher.publish(version, large, { ...moved(version / 1000), delta: {} });
    at.publisher.bytesRead = 0;
    const again = await apps.open({ cacheDir });
    await until('version 5', WAIT_MS, () => again.version === 5);
    expect(at.publisher.bytesRead).toBeLessThan(LARGE_BYTES / 2);
    // Who holds nothing fetches it whole, and both have the same.
    at.publisher.bytesRead = 0;
    const fresh = await apps.open();
    // A browser may have the graph in a cache of its own.
    expect(at.publisher.bytesRead).toBeGreaterThanOrEqual(LARGE_BYTES);
    expect(await fresh.predict(input())).toEqual(await again.predict(input()));
    expect(events.filter(([name]) => name === 'error')).toEqual([]);
  });

  test('where a delta leads elsewhere the version is fetched whole, and the app hears why', async () => {
    at.publisher.publish(1, large, moved(0));
    const model = await apps.open();
    const events = await heard(model);
    const harm = (bytes: Uint8Array): Uint8Array => bytes.map((byte, i) => (i === 8 ? byte ^ 1 : byte));
    at.publisher.publish(2, large, { ...moved(0.001), delta: { harm } });
    await until('version 2', WAIT_MS, () => model.version === 2);
    expect(events.find(([name]) => name === 'error')?.[1]).toMatchObject({
      message: "version 2 of 'm' is fetched whole, for its deltas are no use: they lead to other weights",
    });
    await model.predict(input());
  });

  test('a rollback of the server is a higher version with older bytes: it comes from disk', async () => {
    at.publisher.publish(1, small(1), all(1));
    const model = await apps.open({ cacheDir: temporaryFolder('situations') });
    const events = await heard(model);
    at.publisher.publish(2, small(1), all(2));
    await until('version 2', WAIT_MS, () => model.version === 2);
    at.publisher.bytesRead = 0;
    at.publisher.publish(3, small(1), all(1));
    await until('version 3', WAIT_MS, () => model.version === 3);
    expect([at.publisher.bytesRead, await value(model)]).toEqual([0, 1]);
    expect(events.at(-1)).toEqual(['version', { from: 2, to: 3, reason: 'rollback' }]);
  });

  test('a rollback of a channel is a higher revision with an older version: it comes from disk', async () => {
    for (const version of [1, 2, 3]) at.publisher.publish(version, small(1), all(version));
    at.publisher.say(1, 1);
    const model = await apps.open({ cacheDir: temporaryFolder('situations') }, { channel: 'stable' });
    const events = await heard(model);
    at.publisher.say(2, 2);
    await until('version 2', WAIT_MS, () => model.version === 2);
    at.publisher.bytesRead = 0;
    at.publisher.say(3, 1);
    await until('version 1', WAIT_MS, () => model.version === 1);
    expect([at.publisher.bytesRead, await value(model)]).toEqual([0, 1]);
    expect(events.at(-1)).toEqual(['version', { from: 2, to: 1, reason: 'rollback' }]);
  });

  test('records of a channel that are forged, older, expired or mixed are refused, and what served goes on serving', async () => {
    for (const version of [1, 2, 3]) at.publisher.publish(version, small(1), all(version));
    const old = at.publisher.say(1, 1);
    at.publisher.say(2, 2);
    const model = await apps.open({}, { channel: 'stable' });
    const events = await heard(model);
    const refused = (what: RegExp): Promise<void> =>
      until(`a refusal like ${what}`, WAIT_MS, () =>
        events.some(([name, event]) => name === 'error' && what.test((event as Error).message)),
      );
    const next = at.publisher.say(3, 3, { lifetimeMs: -1 });
    await refused(/holds since/);
    at.publisher.tell(old);
    await refused(/revision 1 of channel stable of 'm' was offered after 3/);
    at.publisher.tell({ ...next, signature: old.signature });
    await refused(/wrong signature/);
    at.publisher.say(4, 3, { digestOf: () => new Uint8Array(32).fill(7) });
    await refused(/another manifest than its channel names/);
    expect([model.version, await value(model)]).toEqual([2, 2]);
    at.publisher.say(5, 3);
    await until('version 3', WAIT_MS, () => model.version === 3);
  });

  test('the version of a rollout serves those whom it names; ended, all have what they had', async () => {
    for (const version of [1, 2]) at.publisher.publish(version, small(1), all(version));
    at.publisher.say(1, 1);
    const named = await apps.open({ labels: { site: 'a' } }, { channel: 'stable' });
    const other = await apps.open({ labels: { site: 'b' } }, { channel: 'stable' });
    at.publisher.say(2, 1, { rollout: { version: 2, percent: 100, cohorts: [{ key: 'site', value: 'a' }] } });
    await until('version 2', WAIT_MS, () => named.version === 2);
    expect([await value(named), await value(other)]).toEqual([2, 1]);
    at.publisher.say(3, 1);
    await until('version 1', WAIT_MS, () => named.version === 1);
    expect(await value(named)).toBe(1);
  });

  test('a version that the app calls bad is taken back, never tried again, also after a restart', async () => {
    const cacheDir = temporaryFolder('situations');
    at.publisher.publish(1, small(1), all(1));
    const model = await apps.open({ cacheDir });
    at.publisher.publish(2, small(1), all(2));
    await until('version 2', WAIT_MS, () => model.version === 2);
    const events = await heard(model);
    await model.reportFailure('wrong');
    expect([model.version, await value(model)]).toEqual([1, 1]);
    expect(events.slice(1)).toEqual([
      ['quarantined', { version: 2, reason: 'the app said: wrong' }],
      ['reverted', { from: 2, to: 1, reason: 'the app said: wrong' }],
      ['version', { from: 2, to: 1, reason: 'reverted' }],
    ]);
    await apps.close();
    const again = await apps.open({ cacheDir });
    expect(again.version).toBe(1);
    // The same bytes by another number are the same release; others are not.
    at.publisher.publish(3, small(1), all(2));
    at.publisher.publish(4, small(1), all(4));
    await until('version 4', WAIT_MS, () => again.version === 4);
  });

  test('a version that answers with what is no number is taken back, and the caller has the answer of the one before', async () => {
    at.publisher.publish(1, small(1), all(1));
    const model = await apps.open();
    const events = await heard(model);
    // Finite as it warms up, and beyond all floats for what the app asks.
    at.publisher.publish(2, small(1), all(3e38));
    await until('version 2', WAIT_MS, () => model.version === 2);
    expect(await value(model)).toBe(1);
    await until('the way back', WAIT_MS, () => events.some(([name]) => name === 'reverted'));
    expect(events.find(([name]) => name === 'quarantined')?.[1]).toMatchObject({ version: 2 });
    await until('version 1', WAIT_MS, () => model.version === 1);
  });

  test('a version that fails the golden check never serves', async () => {
    at.publisher.publish(1, small(1), all(1));
    const golden = { inputs: input(), outputs: { logits: [11, 11, 11] }, tolerance: 5 };
    const model = await apps.open({}, { golden });
    const events = await heard(model);
    at.publisher.publish(2, small(1), all(2));
    await until('the quarantine', WAIT_MS, () => events.some(([name]) => name === 'quarantined'));
    expect(events.at(-1)?.[1]).toEqual({
      version: 2,
      reason: "version 2 of 'm' failed the golden check: output 'logits' is off by 11, and 5 is allowed",
    });
    expect(model.version).toBe(1);
  });

  test('another contract is incompatible; a wider one serves', async () => {
    at.publisher.publish(1, small(1), all(1));
    const model = await apps.open();
    const events = await heard(model);
    at.publisher.publish(2, logistic({ inputs: 5, outputs: 3, seed: 1 }));
    await until('the verdict', WAIT_MS, () => events.some(([name]) => name === 'incompatible'));
    expect(model.version).toBe(1);
    at.publisher.publish(3, mlp({ inputs: 4, hidden: [2], outputs: 3, seed: 1 }));
    await until('version 3', WAIT_MS, () => model.version === 3);
  });

  test('without a network an app starts from its disk, or else from what came with it', async () => {
    const cacheDir = temporaryFolder('situations');
    const { signed, graph, weights } = at.publisher.publish(1, small(1), all(1));
    const first = await apps.open({ cacheDir });
    expect(first.version).toBe(1);
    await apps.close();
    await at.publisher.close();
    try {
      const fromDisk = await apps.open({ cacheDir });
      expect([fromDisk.status, await value(fromDisk)]).toEqual(['ready', 1]);
      const bundle = { release: toBinary(SignedManifestSchema, signed), graph, weights };
      const bundled = await apps.open({}, { bootstrap: () => bundle });
      expect([bundled.version, await value(bundled)]).toEqual([1, 1]);
      const damaged = await apps
        .open({ readyTimeoutMs: 500 }, { bootstrap: () => ({ ...bundle, weights: graph }) })
        .catch((error: unknown) => error);
      expect(damaged).toMatchObject({ code: 'deadline' });
    } finally {
      at.publisher = await Publisher.open(at.ports);
    }
  });

  test('calls under way and versions that are held finish on their version while others are swapped in', async () => {
    at.publisher.publish(1, small(1), all(1));
    const model = await apps.open();
    const held = await model.hold();
    const begun = await model.begin(Array.from({ length: 100 }, input));
    for (let version = 2; version <= 5; version += 1) at.publisher.publish(version, small(1), all(version));
    await until('version 5', WAIT_MS, () => model.version === 5);
    expect(new Set((await begun()).map(({ version }) => version))).toEqual(new Set([1]));
    const { outputs, version } = await held.predict(input());
    expect([version, outputs['logits']?.data[0]]).toEqual([1, 11]);
    await held.release();
    await expect(held.predict(input())).rejects.toThrow(/held no more/);
    expect(await value(model)).toBe(5);
  });

  test('without memory for two versions calls wait while one makes way for the next, and none fails', async () => {
    at.publisher.publish(1, small(1), all(1));
    const model = await apps.open({ memoryBytesMax: 1 });
    const events = await heard(model);
    let [done, answers] = [false, new Set<number>()];
    const load = Array.from({ length: 4 }, async () => {
      while (!done) answers.add(await value(model));
    });
    for (const version of [2, 3]) {
      at.publisher.publish(version, small(1), all(version));
      await until(`version ${version}`, WAIT_MS, () => model.version === version);
    }
    // What cannot be loaded makes way for what was.
    at.publisher.publish(4, small(1), all(Number.NaN));
    await until('the quarantine', WAIT_MS, () => events.some(([name]) => name === 'quarantined'));
    await until('an answer of 3', WAIT_MS, () => answers.has(3));
    done = true;
    await Promise.all(load);
    expect(model.version).toBe(3);
    expect([...answers].every((one) => [1, 2, 3].includes(one))).toBe(true);
  });

  test('of many versions only the newest is fetched', async () => {
    at.publisher.publish(1, small(1), all(1));
    const model = await apps.open();
    const events = await heard(model);
    for (let version = 2; version <= 40; version += 1) at.publisher.publish(version, small(1), all(version));
    await until('version 40', WAIT_MS, () => model.version === 40);
    const swaps = events.filter(([name]) => name === 'version').length;
    const passedOver = events.filter(([name]) => name === 'superseded').length;
    expect(swaps + passedOver).toBe(40);
    expect(passedOver).toBeGreaterThan(20);
  });

  test('progress says how much is here of what is not on disk', async () => {
    at.publisher.publish(1, small(1), all(1));
    const model = await apps.open();
    const progress: ModelEvents['progress'][] = [];
    await model.on('progress', (event) => progress.push(event as ModelEvents['progress']));
    at.publisher.publish(2, small(1), all(randomInt(2, 1000)));
    await until('version 2', WAIT_MS, () => model.version === 2);
    // The graph is that of version 1: the weights alone are fetched.
    expect(progress.at(-1)).toEqual({ version: 2, bytes: 60, bytesTotal: 60 });
  });

  test('silence is told as stale, and ends with the next word', async () => {
    at.publisher.publish(1, small(1), all(1));
    const model = await apps.open({ staleAfterMs: 50 });
    const events = await heard(model);
    await at.publisher.stop();
    if (apps.isOverNats) await at.endNats();
    await until('stale', WAIT_MS, () => model.status === 'stale');
    expect(events.at(-1)).toMatchObject(['stale', { version: 1 }]);
    expect(await value(model)).toBe(1);
    if (apps.isOverNats) await at.startNats();
    await at.publisher.start();
    await until('an end of it', WAIT_MS, () => model.status === 'ready');
  });
}

import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { logistic, type ModelProto } from '@commonweight/core';
import { afterEach, expect, test } from 'vitest';
import { MemoryLink } from '../../../test/support/memory-link.ts';
import { connectOn, type Client, type ConnectOptions } from '../client.ts';
import { sleep } from '../connection/backoff.ts';
import { nodePlatform } from '../platform/node.ts';
import type { ModelEvents } from './events.ts';
import type { ModelOptions } from './life.ts';
import type { Model } from './model.ts';

const clients: Client[] = [];
const closeAll = async (): Promise<void> => void (await Promise.all(clients.splice(0).map((client) => client.close())));
afterEach(closeAll);

async function open(link: MemoryLink, connecting: ConnectOptions = {}, options: ModelOptions = {}): Promise<Model> {
  const platform = { ...nodePlatform, openLink: () => link };
  const client = await connectOn(platform, '', { readyTimeoutMs: 5000, ...connecting });
  clients.push(client);
  return client.model('m', { channel: 'stable', ...options });
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

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'cw-channel-'));
const small = (): ModelProto => logistic({ inputs: 4, outputs: 3, seed: 1 });
const all = (value: number) => (weights: Float32Array) => void weights.fill(value);
const publish = (link: MemoryLink, ...versions: number[]): void => {
  for (const version of versions) link.publish(version, small(), all(version));
};
const value = async (model: Model): Promise<number> => {
  const { outputs } = await model.predict({ input: new Float32Array([1, 2, 3, 4]) });
  return Number(outputs['logits']?.data[0]) / 11;
};

test('a channel says which version serves, whatever is newer', async () => {
  const link = new MemoryLink();
  publish(link, 1, 2, 3);
  link.say(1, 2);
  const model = await open(link);
  expect([model.channel, model.version, await value(model)]).toEqual(['stable', 2, 2]);
  publish(link, 4);
  link.say(2, 3);
  await until(() => model.version === 3);
  // Of one client both: a channel, and the newest version.
  const [client] = clients;
  const newest = await client!.model('m');
  expect([newest.channel, newest.version, model.version]).toEqual(['latest', 4, 3]);
  expect(await client!.model('m', { channel: 'stable' })).toBe(model);
});

test('a rollback is a higher revision that names an older version: it comes from disk', async () => {
  const link = new MemoryLink();
  publish(link, 1, 2);
  link.say(1, 1);
  const model = await open(link, { cacheDir: await folder() });
  link.say(2, 2);
  await until(() => model.version === 2);
  const events = record(model, 'version');
  link.downloads = 0;
  link.say(3, 1);
  await until(() => model.version === 1);
  expect([link.downloads, await value(model)]).toEqual([0, 1]);
  expect(events.slice(1)).toEqual([{ from: 2, to: 1, reason: 'rollback' }]);
});

test('after a rollback an app starts offline with what it went back to, not with what is newer on disk', async () => {
  const cacheDir = await folder();
  const link = new MemoryLink();
  publish(link, 1, 2);
  link.say(1, 1);
  const model = await open(link, { cacheDir });
  for (const [revision, version] of [
    [2, 2],
    [3, 1],
  ] as const) {
    link.say(revision, version);
    await until(() => model.version === version);
  }
  await closeAll();
  link.online = false;
  const again = await open(link, { cacheDir });
  expect([again.version, await value(again)]).toEqual([1, 1]);
  link.online = true;
});

test('an older record, two of one revision and one of another channel are refused, also after a restart', async () => {
  const cacheDir = await folder();
  const link = new MemoryLink();
  publish(link, 1, 2, 3);
  const first = link.say(1, 1);
  const second = link.say(2, 2);
  const model = await open(link, { cacheDir });
  const errors = record(model, 'error').map((error) => error);
  model.on('error', (error) => errors.push(error));
  link.tell(first);
  await until(() => errors.length === 1);
  expect(errors[0]?.message).toBe("revision 1 of channel stable of 'm' was offered after 2; it is not taken");
  link.say(2, 3);
  await until(() => errors.length === 2);
  expect(errors[1]?.message).toBe("two records of channel stable of 'm' have revision 2; the second is not taken");
  link.tell({ ...second, record: first.record });
  await until(() => errors.length === 3);
  expect(errors[2]?.message).toMatch(/a record of channel stable of 'm' was refused: Channel has a wrong signature/);
  expect(model.version).toBe(2);
  await closeAll();
  link.tell(first);
  const again = await open(link, { cacheDir });
  const [refused] = [record(again, 'error')];
  await until(() => refused.length > 0 || again.version !== 2);
  expect(again.version).toBe(2);
  await expect(open(link, { cacheDir }, { channel: 'beta' })).rejects.toThrow(
    "a record of channel stable of 'm' was offered as one of channel beta of 'm'",
  );
});

test('a record that names another manifest than the one that is offered is not followed', async () => {
  const link = new MemoryLink();
  publish(link, 1, 2);
  link.say(1, 1);
  const model = await open(link);
  const errors = record(model, 'error');
  link.say(2, 2, { digestOf: () => new Uint8Array(32) });
  await until(() => errors.length > 0);
  expect(errors[0]?.message).toBe("version 2 of 'm' was offered with another manifest than its channel names");
  expect(model.version).toBe(1);
  link.say(3, 2);
  await until(() => model.version === 2);
});

test('what has expired installs nothing new, and is told as stale; what serves goes on serving', async () => {
  const cacheDir = await folder();
  const link = new MemoryLink();
  publish(link, 1, 2, 3);
  link.say(1, 1, { lifetimeMs: 3000 });
  const model = await open(link, { cacheDir });
  const stale = record(model, 'stale');
  const errors = record(model, 'error');
  await until(() => stale.length === 1);
  expect([stale[0], model.status]).toMatchObject([{ version: 1, reason: 'expired' }, 'stale']);
  link.say(2, 2, { lifetimeMs: -1 });
  await until(() => errors.length === 1);
  expect(errors[0]?.message).toMatch(
    /^what channel stable of 'm' says holds since .* no more: somebody may be keeping/,
  );
  expect([model.version, await value(model)]).toEqual([1, 1]);
  link.say(3, 3);
  await until(() => model.version === 3);
  expect(model.status).toBe('ready');
  // Nor is it a first word to begin with.
  link.say(4, 2, { lifetimeMs: -1 });
  await expect(open(link)).rejects.toThrow('holds since');
});

test('a rollout gives its version to a share of clients, and who has it keeps it as the share grows', async () => {
  const link = new MemoryLink();
  publish(link, 1, 2);
  const ids = Array.from({ length: 20 }, (_, i) => `client-${i}`);
  link.say(1, 1);
  const models = await Promise.all(ids.map((clientId) => open(link, { clientId })));
  const having = (): string[] => ids.filter((_, i) => models[i]?.version === 2);
  let before: string[] = [];
  for (const [revision, percent] of [
    [2, 20],
    [3, 60],
    [4, 100],
  ] as const) {
    link.say(revision, 1, { rollout: { version: 2, percent } });
    await until(() => having().length > before.length);
    await sleep(300);
    expect(having()).toEqual(expect.arrayContaining(before));
    before = having();
  }
  expect(before).toHaveLength(20);
  link.say(5, 1);
  await until(() => having().length === 0);
});

test('a cohort is named by a label of the app', async () => {
  const link = new MemoryLink();
  publish(link, 1, 2);
  link.say(1, 1, { rollout: { version: 2, percent: 100, cohorts: [{ key: 'region', value: 'eu' }] } });
  const versions = [];
  for (const labels of [{ region: 'eu' }, { region: 'us' }, {}, { site: 'eu' }])
    versions.push((await open(link, { labels })).version);
  expect(versions).toEqual([2, 1, 1, 1]);
  await expect(open(link, { labels: { 'no name': 'x' } })).rejects.toThrow(/^label no name: there are up to 16/);
});

test('where the version of a rollout fails here, its client has what the others have', async () => {
  const link = new MemoryLink();
  publish(link, 1);
  link.publish(2, small(), all(Number.NaN));
  // Also for a client that has nothing yet.
  link.say(1, 1, { rollout: { version: 2, percent: 100 } });
  const model = await open(link);
  expect(model.version).toBe(1);
  publish(link, 3, 4);
  link.say(2, 3, { rollout: { version: 4, percent: 100 } });
  await until(() => model.version === 4);
  const versions = record(model, 'version');
  // The one before was 1, and the others have 3.
  await model.reportFailure('wrong');
  await until(() => model.version === 3);
  expect(versions.slice(1).map(({ to }) => to)).toEqual([1, 3]);
  link.say(3, 4);
  link.say(4, 1);
  await until(() => model.version === 1);
});

test('a rollout that ends while its version is being fetched never serves', async () => {
  const link = new MemoryLink();
  publish(link, 1, 2);
  link.say(1, 1);
  const model = await open(link);
  const versions = record(model, 'version');
  for (let revision = 2; revision < 60; revision += 2) {
    link.say(revision, 1, { rollout: { version: 2, percent: 100 } });
    link.say(revision + 1, 1);
  }
  publish(link, 3);
  link.say(60, 3);
  await until(() => model.version === 3);
  expect(versions.map(({ to }) => to).filter((to) => to === 2)).toEqual([]);
});

test('a client without an id of its own keeps a random one, and a damaged one is drawn anew', async () => {
  const cacheDir = await folder();
  const link = new MemoryLink();
  publish(link, 1, 2);
  link.say(1, 1, { rollout: { version: 2, percent: 50 } });
  const first = (await open(link, { cacheDir })).version;
  for (let i = 0; i < 3; i += 1) {
    await closeAll();
    await rm(join(cacheDir, 'models'), { recursive: true });
    expect((await open(link, { cacheDir })).version).toBe(first);
  }
  await closeAll();
  await writeFile(join(cacheDir, 'client-id'), 'nobody');
  await open(link, { cacheDir });
  expect(await readdir(cacheDir)).toContain('client-id');
});

test('a bundle that is older than what served here is not gone back to', async () => {
  const cacheDir = await folder();
  const link = new MemoryLink();
  publish(link, 1, 2);
  link.say(1, 2);
  await open(link, { cacheDir });
  await closeAll();
  await rm(join(cacheDir, 'models', 'm', 'channels', 'stable', 'blobs'), { recursive: true });
  link.online = false;
  const bundle = { release: new Uint8Array(), graph: new Uint8Array(), weights: new Uint8Array() };
  await expect(open(link, { cacheDir, readyTimeoutMs: 300 }, { bootstrap: () => bundle })).rejects.toMatchObject({
    code: 'deadline',
  });
});

// The situations of test/support/situations.ts over every link in Node.
import { join } from 'node:path';
import { connect, type Client, type Model } from '@commonweight/client-sdk';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { sourceProgram, temporaryFolder, until } from '../support/processes.ts';
import { openServers, type OpenServers } from '../support/situation-servers.ts';
import { input, situations, type AppModel, type Apps } from '../support/situations.ts';

const at: OpenServers = await openServers();
const clients: Client[] = [];

beforeAll(() => at.startNats());
beforeEach(() => at.open());
const closeClients = async (): Promise<void> =>
  void (await Promise.all(clients.splice(0).map((client) => client.close())));
afterEach(async () => {
  await closeClients();
  await at.publisher.close();
});
afterAll(() => at.endNats());

describe.each([
  ['grpc', `grpc://127.0.0.1:${at.ports.grpc}`],
  ['nats', `nats://127.0.0.1:${at.ports.nats}`],
  ['http', `http://127.0.0.1:${at.ports.http}`],
])('over %s', (kind, url) => {
  const apps: Apps = {
    isOverNats: kind === 'nats',
    open: async (connecting, options) => {
      const client = await connect(url, { readyTimeoutMs: 10_000, ...connecting });
      clients.push(client);
      return appModel(await client.model('m', options));
    },
    close: closeClients,
  };
  situations(at, apps);
});

const appModel = (model: Model): AppModel => ({
  get version() {
    return model.version;
  },
  get status() {
    return model.status;
  },
  predict: (inputs) => model.predict(inputs),
  begin: async (inputs) => {
    const begun = Promise.all(inputs.map((one) => model.predict(one)));
    return () => begun;
  },
  hold: async () => {
    const held = model.hold();
    return { predict: (inputs) => held.predict(inputs), release: async () => held.release() };
  },
  on: async (name, listener) => void model.on(name, listener),
  reportFailure: (reason) => model.reportFailure(reason),
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

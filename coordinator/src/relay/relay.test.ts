import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { logistic, writeModel, type GridSpec } from '@commonweight/core';
import { ContributionListSchema, Reason } from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { freePort } from '../../../test/support/free-port.ts';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { relayBefore } from '../../../test/support/relays.ts';
import { essenceOf, newestOf } from '../../../test/support/replicas.ts';
import { TcpProxy } from '../../../test/support/tcp-proxy.ts';
import { config, invited, offerOf, TestAgent, updateOf } from '../../../test/support/training.ts';
import { openCoordinator } from '../coordinator.ts';
import { serveGrpc } from '../edges/grpc/server.ts';
import type { AgentGate, CoordinatorService } from '../service.ts';

/** Of an encoding whose updates are larger than their sum: folding pays from two of them on. */
const ENCODING = 'float32';
const IDS = ['a', 'b', 'c'];

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

function opened<T extends { close(): Promise<void> }>(one: T): T {
  open.push(one);
  return one;
}

interface Site {
  service: CoordinatorService;
  port: number;
}

async function coordinator({ dataDir = temporaryFolder('relayed'), port = 0 } = {}): Promise<Site> {
  const service = opened(await openCoordinator({ dataDir }));
  const edge = opened(await serveGrpc(service, { host: '127.0.0.1', port }));
  return { service, port: edge.port };
}

async function training(changes: object = {}, at: Parameters<typeof coordinator>[0] = {}): Promise<Site> {
  const site = await coordinator(at);
  const { service } = site;
  await service.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
  await service.createTask('train', JSON.stringify({ ...config, encoding: ENCODING, ...changes }));
  return site;
}

/** Agents that are invited to the first round, each at its gate. */
async function join3({ service }: Site, gates: readonly AgentGate[]): Promise<{ agents: TestAgent[]; grid: GridSpec }> {
  const agents = IDS.map((id, i) => new TestAgent(gates[i % gates.length]!, id));
  for (const agent of agents) agent.ready();
  const ready = async (): Promise<number> => (await service.listAgents()).filter((agent) => agent.ready).length;
  await expect.poll(ready, WITHIN).toBe(agents.length);
  await service.startTask('train');
  await expect.poll(() => agents.every((agent) => agent.assignments().length === 1), WITHIN).toBe(true);
  return { agents, grid: await invited(agents) };
}

const WITHIN = { timeout: 60_000 };
const update = (id: string, grid: GridSpec, changes: Parameters<typeof updateOf>[2] = {}) =>
  updateOf(id, grid, changes, { encoding: ENCODING, topK: 1 });
const version = async ({ service }: Site): Promise<number> => Number((await newestOf(service)).version);
const listed = async ({ service }: Site): Promise<string[]> => {
  const { contributionsDigest } = await newestOf(service);
  const { data } = await service.readBlob(contributionsDigest, 0, 2 ** 20);
  return fromBinary(ContributionListSchema, data).accepted.map(({ updateId }) => Buffer.from(updateId).toString('hex'));
};

async function deliver(agents: readonly TestAgent[], grid: GridSpec): Promise<void> {
  for (const agent of agents) expect(await agent.submit(update(agent.id, grid))).toMatchObject({ accepted: true });
}

/** What a round of the same updates comes to without a relay. */
async function withoutRelay(): Promise<string> {
  const site = await training();
  const { agents, grid } = await join3(site, [site.service]);
  await deliver(agents, grid);
  await expect.poll(() => version(site), WITHIN).toBe(2);
  return essenceOf(site.service);
}

test('the updates of a site go up as one part, and the version is the same to the bit', async () => {
  const site = await training();
  const relay = opened(await relayBefore(site.port));
  const { agents, grid } = await join3(site, [relay.gate]);
  await deliver(agents, grid);
  await expect.poll(() => version(site), WITHIN).toBe(2);
  expect(await essenceOf(site.service)).toBe(await withoutRelay());
  await expect.poll(() => agents.map((agent) => agent.receipts().length), WITHIN).toEqual([1, 1, 1]);
  expect(agents[0]!.receipts()[0]!.outcome).toMatchObject({ case: 'committedVersion', value: 2n });
  await expect.poll(() => relay.figures().kept, WITHIN).toBe(0);
  await expect.poll(() => relay.figures(), WITHIN).toMatchObject({ parts: 1, updatesInParts: 3, single: 0 });
  const { bytesIn, bytesUp } = relay.figures();
  expect(bytesUp).toBeLessThan(bytesIn);
});

test('where a part would be larger than its updates, these go up themselves', async () => {
  const site = await training({ encoding: 'mxint8' });
  const relay = opened(await relayBefore(site.port));
  const { agents, grid } = await join3(site, [relay.gate]);
  for (const agent of agents) expect(await agent.submit(updateOf(agent.id, grid))).toMatchObject({ accepted: true });
  await expect.poll(() => version(site), WITHIN).toBe(2);
  await expect.poll(() => relay.figures(), WITHIN).toMatchObject({ parts: 0, single: 3 });
});

test('an agent at the coordinator itself, two at a relay: one version of all three', async () => {
  const site = await training();
  const relay = opened(await relayBefore(site.port));
  const { agents, grid } = await join3(site, [relay.gate, site.service, relay.gate]);
  await deliver(agents, grid);
  await expect.poll(() => version(site), WITHIN).toBe(2);
  expect(await essenceOf(site.service)).toBe(await withoutRelay());
  await expect.poll(() => relay.figures(), WITHIN).toMatchObject({ parts: 1, updatesInParts: 2 });
});

test('a late update goes up as a second part', async () => {
  const site = await training();
  const relay = opened(await relayBefore(site.port, { waitMs: 200 }));
  const { agents, grid } = await join3(site, [relay.gate]);
  await deliver(agents.slice(0, 2), grid);
  await expect.poll(() => relay.figures().parts, WITHIN).toBe(1);
  expect(await version(site)).toBe(1);
  await deliver(agents.slice(2), grid);
  await expect.poll(() => version(site), WITHIN).toBe(2);
  expect(await essenceOf(site.service)).toBe(await withoutRelay());
});

test('an update that the coordinator has from elsewhere is taken out of the part, and counted once', async () => {
  const site = await training();
  const relay = opened(await relayBefore(site.port));
  const { agents, grid } = await join3(site, [relay.gate]);
  await deliver(agents.slice(0, 2), grid);
  // It moves to the coordinator, which does not know what the relay holds.
  const moved = new TestAgent(site.service, 'a');
  expect(await moved.submit(update('a', grid))).toMatchObject({ accepted: true });
  await deliver(agents.slice(2), grid);
  await expect.poll(() => version(site), WITHIN).toBe(2);
  expect(await essenceOf(site.service)).toBe(await withoutRelay());
  expect(new Set(await listed(site)).size).toBe(3);
  await expect.poll(() => moved.receipts().length, WITHIN).toBe(1);
  await expect.poll(() => relay.figures().kept, WITHIN).toBe(0);
});

test('a bad update is refused by the coordinator in a receipt, and removes only itself', async () => {
  const site = await training({ cohort: { min: 2, max: 3 } });
  const relay = opened(await relayBefore(site.port));
  const { agents, grid } = await join3(site, [relay.gate]);
  const payload = new Uint8Array(new Float32Array(39).fill(Number.NaN).buffer);
  const { receipt, accepted } = await agents[0]!.submit(update('a', grid, { payload }));
  expect({ accepted, isRefused: receipt !== undefined }).toEqual({ accepted: false, isRefused: true });
  const tooHeavy = await agents[1]!.submit(update('b', grid, { weight: 2n ** 40n }));
  expect(tooHeavy.receipt).toBeDefined();
  expect(await agents[1]!.submit(update('b', grid))).toMatchObject({ accepted: true });
  expect(await agents[2]!.submit(update('c', grid))).toMatchObject({ accepted: true });
  await expect.poll(() => version(site), WITHIN).toBe(2);
  expect(await listed(site)).toHaveLength(2);
  const stranger = new TestAgent(relay.gate, 'stranger');
  const answer = await stranger.submit(update('stranger', grid));
  expect(answer).toMatchObject({ accepted: false });
  expect(answer.receipt).toBeDefined();
});

test('rules that must see each update get each, and so does a task without rounds', async () => {
  const strategies = [{ name: 'median' }, { name: 'fedBuff', bufferSize: 3 }];
  for (const strategy of strategies) {
    const site = await training({ strategy });
    const relay = opened(await relayBefore(site.port));
    const { agents, grid } = await join3(site, [relay.gate]);
    for (const agent of agents) {
      const { invitation } = agent.assignments()[0]!;
      expect(await agent.submit(update(agent.id, grid, { invitation }))).toMatchObject({ accepted: true });
    }
    await expect.poll(() => version(site), WITHIN).toBe(2);
    await expect.poll(() => relay.figures(), WITHIN).toMatchObject({ parts: 0, single: 3 });
  }
});

test('while the uplink is away agents stay and hand in, and all of it counts once that is back', async () => {
  const site = await training();
  const proxy = opened(await TcpProxy.open(site.port));
  const lines: string[] = [];
  const relay = opened(await relayBefore(proxy.port, { log: (line) => lines.push(line) }));
  const { agents, grid } = await join3(site, [relay.gate]);
  await deliver(agents.slice(0, 1), grid);
  proxy.refuses = true;
  proxy.reset();
  await expect.poll(() => lines.some((line) => line.includes('uplink is away')), WITHIN).toBe(true);
  await deliver(agents.slice(1), grid);
  // One that comes now, too: it knows the key from before.
  const late = new TestAgent(relay.gate, 'late');
  expect(late.messages.map(({ message }) => message.case)).toEqual(['welcome']);
  expect(relay.figures().kept).toBe(3);
  proxy.refuses = false;
  await expect.poll(() => version(site), WITHIN).toBe(2);
  expect(await essenceOf(site.service)).toBe(await withoutRelay());
  await expect.poll(() => agents.map((agent) => agent.receipts().length), WITHIN).toEqual([1, 1, 1]);
}, 180_000);

test('what comes too late since the uplink was away is ended by the coordinator', async () => {
  const site = await training({ cohort: { min: 1, max: 3 }, collectMs: 3_000, pauseMs: 600_000 });
  const proxy = opened(await TcpProxy.open(site.port));
  const relay = opened(await relayBefore(proxy.port));
  const { agents, grid } = await join3(site, [relay.gate, relay.gate, site.service]);
  proxy.refuses = true;
  proxy.reset();
  await deliver(agents.slice(0, 2), grid);
  await deliver(agents.slice(2), grid);
  await expect.poll(() => version(site), WITHIN).toBe(2);
  proxy.refuses = false;
  const ends = (): unknown[] => agents.slice(0, 2).map((agent) => agent.receipts()[0]?.outcome);
  const stale = { case: 'rejected', value: Reason.STALE_ROUND };
  await expect.poll(ends, WITHIN).toMatchObject([stale, stale]);
  expect(await listed(site)).toHaveLength(1);
  await expect.poll(() => relay.figures().kept, WITHIN).toBe(0);
}, 180_000);

test('a coordinator that was restarted and forgot the round gets its updates again, without the agents', async () => {
  const dataDir = temporaryFolder('relayed');
  const site = await training({}, { dataDir });
  const relay = opened(await relayBefore(site.port, { waitMs: 100 }));
  const { agents, grid } = await join3(site, [relay.gate]);
  await deliver(agents.slice(0, 2), grid);
  await expect.poll(() => relay.figures().parts, WITHIN).toBe(1);
  // The edge first, then the store; the relay stays.
  const [service, edge] = open.splice(0, 2);
  await edge!.close();
  await service!.close();
  const again = await coordinator({ dataDir, port: site.port });
  await expect.poll(() => relay.figures().parts, WITHIN).toBe(2);
  const back = IDS.map((id) => new TestAgent(relay.gate, id));
  await deliver(back.slice(2), grid);
  await expect.poll(() => version(again), WITHIN).toBe(2);
  expect(await essenceOf(again.service)).toBe(await withoutRelay());
}, 180_000);

test('a relay that was ended goes on with what it kept, also of agents that are away', async () => {
  const site = await training();
  const dir = temporaryFolder('relay');
  const proxy = opened(await TcpProxy.open(site.port));
  const first = await relayBefore(proxy.port, { dir });
  const { agents, grid } = await join3(site, [first.gate]);
  proxy.refuses = true;
  proxy.reset();
  await deliver(agents, grid);
  await first.close();
  proxy.refuses = false;
  const second = opened(await relayBefore(proxy.port, { dir }));
  await expect.poll(() => version(site), WITHIN).toBe(2);
  expect(await essenceOf(site.service)).toBe(await withoutRelay());
  await expect.poll(() => second.figures(), WITHIN).toMatchObject({ parts: 1, updatesInParts: 3 });
  const back = new TestAgent(second.gate, 'a');
  back.say({ message: { case: 'offer', value: { updates: [offerOf(update('a', grid).header)] } } });
  await expect.poll(() => back.receipts().length, WITHIN).toBe(1);
}, 180_000);

test('where there is no room, updates go up at once while the uplink is there, and are refused while it is away', async () => {
  const site = await training();
  const proxy = opened(await TcpProxy.open(site.port));
  const { length } = update('a', { lsbExponent: -20, valueMaxExponent: 3, weightMax: 10, cohortMax: 10 }).payload;
  const relay = opened(await relayBefore(proxy.port, { spoolBytesMax: 2 * length, waitMs: 100 }));
  const { agents, grid } = await join3(site, [relay.gate]);
  await deliver(agents.slice(0, 2), grid);
  await expect.poll(() => relay.figures().parts, WITHIN).toBe(1);
  proxy.refuses = true;
  proxy.reset();
  const last = agents[2]!;
  const submitted = async (): Promise<string> =>
    last.submit(update(last.id, grid)).then(
      ({ accepted }) => `accepted: ${accepted}`,
      (error: Error) => error.message,
    );
  await expect.poll(submitted, WITHIN).toMatch(/^the relay has no room for more updates: try again/);
  proxy.refuses = false;
  await expect.poll(submitted, WITHIN).toBe('accepted: true');
  await expect.poll(() => version(site), WITHIN).toBe(2);
  expect(await essenceOf(site.service)).toBe(await withoutRelay());
  expect(relay.figures()).toMatchObject({ parts: 1, updatesInParts: 2, single: 1 });
}, 180_000);

test('of several addresses the relay takes one that is there, and another when that one goes', async () => {
  const site = await training();
  const nobody = await freePort();
  const [first, second] = [opened(await TcpProxy.open(site.port)), opened(await TcpProxy.open(site.port))];
  const coordinator = `grpc://127.0.0.1:${nobody},127.0.0.1:${first.port},127.0.0.1:${second.port}`;
  const lines: string[] = [];
  const relay = opened(await relayBefore(site.port, { coordinator, log: (line) => lines.push(line) }));
  const { agents, grid } = await join3(site, [relay.gate]);
  await deliver(agents.slice(0, 2), grid);
  first.refuses = true;
  first.reset();
  await deliver(agents.slice(2), grid);
  await expect.poll(() => version(site), WITHIN).toBe(2);
  expect(await essenceOf(site.service)).toBe(await withoutRelay());
  expect(lines[0]).toBe(`uplink to ${coordinator} is there`);
}, 180_000);

test('a folder has one relay', async () => {
  const site = await training();
  const dir = temporaryFolder('relay');
  opened(await relayBefore(site.port, { dir }));
  await expect(relayBefore(site.port, { dir })).rejects.toThrow(/in use: end the relay/);
});

test('another key than the one that is known is not the coordinator', async () => {
  const dir = temporaryFolder('relay');
  const first = await relayBefore((await training()).port, { dir });
  await first.close();
  const lines: string[] = [];
  opened(await relayBefore((await training()).port, { dir, log: (line) => lines.push(line) }));
  expect(lines.join('\n')).toMatch(/signs with another key than before/);
});

test('a blob is fetched once for all agents, and a damaged one again', async () => {
  const site = await training();
  const dir = temporaryFolder('relay');
  const first = await relayBefore(site.port, { dir });
  const { digest, size } = (await newestOf(site.service)).artifacts.find(({ role }) => role === 'graph')!;
  const parts = await Promise.all([1, 2, 3].map(() => first.gate.readBlob(digest, 0, 2 ** 20)));
  expect(parts.map(({ data }) => BigInt(data.length))).toEqual([size, size, size]);
  expect(first.figures()).toMatchObject({ blobBytesFetched: Number(size), blobBytesServed: 3 * Number(size) });
  await first.close();
  const [file] = readdirSync(join(dir, 'blobs'));
  writeFileSync(join(dir, 'blobs', file!), 'damaged');
  const second = opened(await relayBefore(site.port, { dir }));
  expect(await second.gate.readBlob(digest, 0, 2 ** 20)).toEqual(parts[0]);
  expect(second.figures().blobBytesFetched).toBe(Number(size));
  await expect(second.gate.readBlob(new Uint8Array(32), 0, 10)).rejects.toThrow(/no blob|not/);
});

test('an update that says a size which no update of the task has is refused before any of its bytes is kept', async () => {
  const site = await training();
  const relay = opened(await relayBefore(site.port));
  const { agents, grid } = await join3(site, [relay.gate]);
  const [first, ...others] = agents as [TestAgent, ...TestAgent[]];
  const { accepted, receipt } = await first.submit(update(first.id, grid, { payloadSize: 500_000_000n }));
  expect([accepted, receipt === undefined]).toEqual([false, false]);
  await deliver(others, grid);
});

import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { gridFor, type GridSpec } from '@commonweight/core';
import { Encoding, ManifestSchema, Reason, ReceiptSchema, type Manifest } from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import {
  config,
  invited,
  LENGTH,
  offerOf,
  sha256,
  startTraining,
  TestAgent,
  updateOf,
} from '../../test/support/training.ts';
import { openCoordinator } from './coordinator.ts';
import type { CoordinatorService } from './service.ts';

const AGENTS = ['a', 'b', 'c'];

const open: CoordinatorService[] = [];
afterEach(async () => {
  for (const service of open.splice(0)) await service.close();
});

async function coordinatorIn(dataDir: string): Promise<CoordinatorService> {
  const service = await openCoordinator({ dataDir });
  open.push(service);
  return service;
}

const folder = (): string => mkdtempSync(join(tmpdir(), 'commonweight-coordinator-'));

async function readyToRun(dataDir = folder(), changes: object = {}): Promise<CoordinatorService> {
  const service = await coordinatorIn(dataDir);
  await startTraining(service, changes);
  return service;
}

const newest = async (service: CoordinatorService): Promise<Manifest> =>
  fromBinary(ManifestSchema, (await service.getModel('flowers', 0)).manifest);
const weightsDigest = async (service: CoordinatorService): Promise<string> =>
  Buffer.from((await newest(service)).artifacts.find(({ role }) => role === 'weights')!.digest).toString('hex');

async function join3(service: CoordinatorService): Promise<{ agents: TestAgent[]; grid: GridSpec }> {
  const agents = AGENTS.map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  return { agents, grid: await invited(agents) };
}

test('a round: invited, submitted, committed, receipts, and the next round opens', async () => {
  const service = await readyToRun();
  const { agents, grid } = await join3(service);
  expect(grid).toEqual(gridFor({ valueMaxExponent: 3, weightMax: 100_000, cohortMax: 3 }));
  for (const agent of agents) expect(await agent.submit(updateOf(agent.id, grid))).toMatchObject({ accepted: true });
  const manifest = await newest(service);
  expect(manifest).toMatchObject({ version: 2n, round: 1n, totalWeight: 30n, strategy: 'fedAvg', task: 'train' });
  expect(manifest.parentDigest).toEqual(sha256((await service.getModel('flowers', 1)).manifest));
  for (const agent of agents) {
    expect(agent.receipts()).toMatchObject([{ round: 1n, outcome: { case: 'committedVersion', value: 2n } }]);
    expect(agent.assignments()).toHaveLength(2);
  }
});

test('the order of arrival never shows in the published bytes', async () => {
  const digests = new Set<string>();
  for (const order of [
    [0, 1, 2],
    [2, 0, 1],
    [1, 2, 0],
  ]) {
    const service = await readyToRun();
    const { agents, grid } = await join3(service);
    for (const i of order) await agents[i]!.submit(updateOf(agents[i]!.id, grid));
    digests.add(await weightsDigest(service));
  }
  expect(digests.size).toBe(1);
});

test('bad updates are refused by their reason, counted, and the result is bit-equal to the round without them', async () => {
  const clean = await readyToRun();
  const there = await join3(clean);
  for (const agent of there.agents) await agent.submit(updateOf(agent.id, there.grid));

  const service = await readyToRun();
  const { agents, grid } = await join3(service);
  const [a, b, c] = agents as [TestAgent, TestAgent, TestAgent];
  const stranger = new TestAgent(service, 'z');
  const refusals: [ReturnType<typeof updateOf>, TestAgent, Reason][] = [
    [updateOf('z', grid), stranger, Reason.NOT_INVITED],
    [updateOf('a', grid, { round: 9n }), a, Reason.STALE_ROUND],
    [updateOf('a', grid, { baseVersion: 9n }), a, Reason.WRONG_BASE_VERSION],
    [updateOf('a', grid, { payload: new Uint8Array(7) }), a, Reason.WRONG_SIZE],
    [updateOf('a', grid, { encoding: Encoding.FLOAT32 }), a, Reason.WRONG_ENCODING],
    [updateOf('a', grid, { weight: 0n }), a, Reason.WEIGHT_OUT_OF_RANGE],
    [updateOf('a', grid, { weight: 2n ** 60n }), a, Reason.WEIGHT_OUT_OF_RANGE],
    [updateOf('a', grid, { payload: new Uint8Array(41).fill(255) }), a, Reason.NOT_FINITE],
  ];
  for (const [update, agent, reason] of refusals) {
    const { accepted, receipt } = await agent.submit(update);
    expect(accepted).toBe(false);
    expect(fromBinary(ReceiptSchema, receipt!.receipt).outcome).toEqual({ case: 'rejected', value: reason });
  }
  // Nothing is ended by what was damaged on its way.
  const damaged = updateOf('a', grid);
  damaged.payload[40]! ^= 1;
  const headers = [{ updateId: new Uint8Array(32) }, { round: 3n }, { weight: 11n }, { encoding: Encoding.FLOAT32 }];
  for (const update of [
    damaged,
    ...headers.map((change) => ({ ...updateOf('a', grid), header: { ...updateOf('a', grid).header, ...change } })),
    { ...updateOf('a', grid), header: { ...updateOf('a', grid).header, metrics: { loss: 1 } } },
  ]) {
    const { accepted, offset, receipt } = await a.submit(update);
    expect({ accepted, offset, receipt }).toEqual({ accepted: false, offset: 0n, receipt: undefined });
  }

  await a.submit(updateOf('a', grid));
  expect(await a.submit(updateOf('a', grid))).toMatchObject({ accepted: true });
  await c.submit(updateOf('c', grid));
  await b.submit(updateOf('b', grid));

  expect(await weightsDigest(service)).toBe(await weightsDigest(clean));
  const status = await service.getTask('train');
  expect(status.updatesAccepted).toBe(3n);
  expect(status.updatesRejected).toBe(15n);
  expect(status.rejectedByReason).toMatchObject({
    'not-finite': 1n,
    duplicate: 1n,
    'weight-out-of-range': 2n,
    'digest-mismatch': 4n,
    'wrong-id': 2n,
  });
});

test('float32: NaN, infinity, too large, the wrong shape, an old round, a second time and a stranger leave no trace in the sum', async () => {
  const encoding = { encoding: 'float32' };
  const good = (id: string) => ({
    encoding: Encoding.FLOAT32,
    payload: Buffer.from(Float32Array.from({ length: LENGTH }, (_, i) => (i - id.charCodeAt(0)) / 512).buffer),
  });
  const clean = await readyToRun(folder(), encoding);
  const there = await join3(clean);
  for (const agent of there.agents) await agent.submit(updateOf(agent.id, there.grid, good(agent.id)));

  const service = await readyToRun(folder(), encoding);
  const { agents, grid } = await join3(service);
  const stranger = new TestAgent(service, 'z');
  const spoilt = (id: string, at: number, value: number) => {
    const { payload } = good(id);
    payload.writeFloatLE(value, 4 * at);
    return { encoding: Encoding.FLOAT32, payload };
  };
  const refusals: [string, TestAgent, Parameters<typeof updateOf>[2]][] = [
    ['not-finite', agents[0]!, spoilt('a', 0, Number.NaN)],
    ['not-finite', agents[0]!, spoilt('a', LENGTH - 1, -Infinity)],
    ['value-too-large', agents[0]!, spoilt('a', 20, 8.000001)],
    ['wrong-size', agents[1]!, { ...good('a'), payload: good('a').payload.subarray(4) }],
    ['wrong-size', agents[1]!, { ...good('a'), payload: Buffer.concat([good('a').payload, Buffer.alloc(4)]) }],
    ['wrong-encoding', agents[1]!, { encoding: Encoding.MXINT8 }],
    ['stale-round', agents[2]!, { ...good('a'), round: 0n }],
    ['not-invited', stranger, good('z')],
  ];
  const counted: Record<string, bigint> = {};
  // Before, between and after the good ones.
  for (const [i, agent] of agents.entries()) {
    for (const [reason, sender, changes] of refusals.slice(3 * i, 3 * i + 3)) {
      const { accepted, receipt } = await sender.submit(updateOf(sender.id, grid, changes));
      expect(accepted, reason).toBe(false);
      expect(fromBinary(ReceiptSchema, receipt!.receipt).outcome.case).toBe('rejected');
      counted[reason] = (counted[reason] ?? 0n) + 1n;
      expect((await service.getTask('train')).rejectedByReason).toEqual(counted);
    }
    expect(await agent.submit(updateOf(agent.id, grid, good(agent.id)))).toMatchObject({ accepted: true });
    expect(await agent.submit(updateOf(agent.id, grid, good(agent.id)))).toMatchObject({ accepted: true });
    counted['duplicate'] = (counted['duplicate'] ?? 0n) + 1n;
  }
  expect(await newest(service)).toMatchObject({ version: 2n, totalWeight: 30n });
  expect(await weightsDigest(service)).toBe(await weightsDigest(clean));
});

test('an update comes in chunks and resumes where it was cut', async () => {
  const service = await readyToRun();
  const { grid } = await join3(service);
  const { header, payload } = updateOf('a', grid);
  expect((await service.submitChunk('a', header, 0, payload.subarray(0, 10))).offset).toBe(10n);
  expect((await service.updateStatus(header.updateId)).offset).toBe(10n);
  expect((await service.submitChunk('a', header, 30, payload.subarray(30))).offset).toBe(10n);
  expect(await service.submitChunk('a', header, 10, payload.subarray(10))).toMatchObject({ accepted: true });
  expect(await service.updateStatus(header.updateId)).toMatchObject({ accepted: true });
});

test('after a crash the round goes on, asks for what the outboxes hold, and counts each update once', async () => {
  const dataDir = folder();
  const before = await readyToRun(dataDir);
  const { agents, grid } = await join3(before);
  await agents[0]!.submit(updateOf('a', grid));
  await agents[1]!.submit(updateOf('b', grid));
  // The memory of the process is lost; what is on disk is what a kill leaves.
  await before.close();
  const service = await coordinatorIn(dataDir);
  const again = AGENTS.map((id) => new TestAgent(service, id));
  for (const agent of again.slice(0, 2)) {
    const { header } = updateOf(agent.id, grid);
    agent.say({ message: { case: 'offer', value: { updates: [offerOf(header)] } } });
    await expect.poll(() => agent.messages.some(({ message }) => message.case === 'wanted')).toBe(true);
    await agent.submit(updateOf(agent.id, grid));
  }
  again[2]!.ready();
  await expect.poll(() => again[2]!.assignments().length).toBe(1);
  await again[2]!.submit(updateOf('c', grid));
  expect(await newest(service)).toMatchObject({ version: 2n, totalWeight: 30n });
  const { header } = updateOf('a', grid);
  again[0]!.say({ message: { case: 'offer', value: { updates: [offerOf(header)] } } });
  await expect.poll(() => again[0]!.receipts().length).toBe(2);
});

test('what is wrong with a data folder is named', async () => {
  const dataDir = folder();
  await coordinatorIn(dataDir);
  await expect(openCoordinator({ dataDir })).rejects.toThrow(/in use by another coordinator/);
  const damaged = folder();
  writeFileSync(
    join(damaged, 'commonweight.sqlite'),
    'not a database, and long enough to be taken for one'.repeat(100),
  );
  await expect(openCoordinator({ dataDir: damaged })).rejects.toThrow(/is damaged/);
  const file = join(folder(), 'file');
  writeFileSync(file, '');
  await expect(openCoordinator({ dataDir: join(file, 'below') })).rejects.toThrow(/cannot write to the data folder/);
});

test('a damaged blob is named, never served', async () => {
  const dataDir = folder();
  const service = await readyToRun(dataDir);
  const { digest } = (await newest(service)).artifacts.find(({ role }) => role === 'weights')!;
  const { data } = await service.readBlob(digest, 0, 1000);
  await service.close();
  open.pop();
  for (const name of ['commonweight.sqlite', 'commonweight.sqlite-wal']) {
    const path = join(dataDir, name);
    let bytes: Buffer;
    try {
      bytes = readFileSync(path);
    } catch {
      continue;
    }
    for (let at = bytes.indexOf(data); at >= 0; at = bytes.indexOf(data, at + 1)) bytes[at] = bytes[at]! ^ 1;
    writeFileSync(path, bytes);
  }
  const reopened = openCoordinator({ dataDir });
  await expect(reopened.then((again) => (open.push(again), again.readBlob(digest, 0, 1000)))).rejects.toThrow(
    /is damaged/,
  );
});

test('a task that cannot work is refused by what is wrong', async () => {
  const service = await readyToRun();
  const create2 = (changes: object) => service.createTask('other', JSON.stringify({ ...config, ...changes }));
  await expect(create2({ model: 'nothing' })).rejects.toThrow(/no model "nothing"/);
  await expect(create2({ strategy: { name: 'fedMagic' } })).rejects.toThrow(
    /fedMagic.*use one of fedAvg, fedAvgM, fedProx/,
  );
  await expect(create2({ strategy: { name: 'constructor' } })).rejects.toMatchObject({ code: 'invalid' });
  await expect(create2({ strategy: { name: 'fedProx', mu: 1e7 } })).rejects.toThrow(/proximalMu is out of range/);
  await expect(create2({ cohort: { min: 5, max: 2 } })).rejects.toThrow(/cohort.max/);
  await expect(create2({ strategy: { name: 'fedNova' }, encoding: 'mxint4' })).rejects.toThrow(/mxint4 is too coarse/);
  await expect(create2({ epochs: 1 })).rejects.toThrow(/"epochs" is not known/);
  await expect(service.createTask('bad name', '{}')).rejects.toThrow(/letters, digits/);
  await expect(service.createTask('train', '{}')).rejects.toThrow(/there already/);
});

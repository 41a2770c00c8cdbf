import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { fromBinary } from '@bufbuild/protobuf';
import { ManifestSchema, Reason, ReceiptSchema, type UpdateHeader } from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import {
  compressed,
  invited,
  sealed,
  sha256,
  startTraining,
  TestAgent,
  updateOf,
} from '../../../test/support/training.ts';
import { openCoordinator } from '../coordinator.ts';
import { openSigner } from '../identity/signer.ts';
import type { CoordinatorService } from '../service.ts';
import { SqliteStore } from '../store/sqlite-store.ts';
import { verifyStore } from '../store/verify.ts';
import { auditVersion } from './audit.ts';

const open: CoordinatorService[] = [];
afterEach(async () => {
  for (const service of open.splice(0)) await service.close();
});

/** An exponent for each block, and 39 times the same: what compresses well. */
const payloadOf = (id: string): Uint8Array => new Uint8Array(41).fill(id.charCodeAt(0) - 90).fill(122, 0, 2);

async function begun(changes: object = {}) {
  const dataDir = join(temporaryFolder('compressed'), 'data');
  const service = await openCoordinator({ dataDir });
  open.push(service);
  await startTraining(service, { rounds: 1, ...changes });
  const agents = ['a', 'b', 'c'].map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  return { dataDir, service, agents, grid: await invited(agents) };
}

async function essence(service: CoordinatorService): Promise<string> {
  const { version, artifacts } = fromBinary(ManifestSchema, (await service.getModel('flowers', 0)).manifest);
  expect(version).toBe(2n);
  return Buffer.from(artifacts.find(({ role }) => role === 'weights')!.digest).toString('hex');
}

test('an invitation allows compression, unless the task does not', async () => {
  expect((await begun()).agents[0]!.assignments()[0]).toMatchObject({ zstd: true });
  expect((await begun({ compression: 'none' })).agents[0]!.assignments()[0]).toMatchObject({ zstd: false });
});

test.each([
  ['the mean', {}],
  ['a rule that sees each update', { strategy: { name: 'median' } }],
])('what is published is the same whether updates come compressed or not: %s', async (_, changes) => {
  const digests = new Set<string>();
  for (const some of ['', 'b', 'abc']) {
    const { service, agents, grid, dataDir } = await begun({ retainUpdates: 2, ...changes });
    for (const agent of agents) {
      const update = updateOf(agent.id, grid, { payload: payloadOf(agent.id) });
      expect(await agent.submit(some.includes(agent.id) ? compressed(update) : update)).toMatchObject({
        accepted: true,
      });
    }
    digests.add(await essence(service));
    await service.close();
    const store = SqliteStore.open(dataDir);
    const { publicKey } = openSigner(dataDir);
    expect(await auditVersion(store, publicKey, { model: 'flowers', version: 0 })).toMatchObject({ verdict: 'same' });
    expect((await verifyStore(store, publicKey)).damages).toEqual([]);
    await store.close();
  }
  expect(digests.size).toBe(1);
});

test('bad compressed updates are refused by their reason, and change nothing', async () => {
  const clean = await begun();
  for (const { id, submit } of clean.agents.map((agent) => ({ id: agent.id, submit: agent.submit.bind(agent) }))) {
    await submit(updateOf(id, clean.grid, { payload: payloadOf(id) }));
  }
  const { service, agents, grid } = await begun();
  const [a] = agents as [TestAgent];
  const good = (letter = 'a'): ReturnType<typeof updateOf> =>
    compressed(updateOf('a', grid, { payload: payloadOf(letter) }));
  // Of other bytes each: an id that was refused has ended.
  const changed = (changes: Partial<UpdateHeader>, letter: string) => {
    const { header, payload } = good(letter);
    return { header: sealed({ ...header, ...changes }), payload };
  };
  const of = (payload: Uint8Array, rawSize = 41n) => {
    const update = updateOf('a', grid, { payload, rawSize });
    return { header: sealed({ ...update.header, payloadDigest: sha256(payload) }), payload };
  };
  const refusals: [ReturnType<typeof updateOf>, Reason][] = [
    [changed({ rawSize: 42n }, 'p'), Reason.WRONG_SIZE],
    [changed({ rawSize: 2n ** 40n }, 'q'), Reason.WRONG_SIZE],
    [changed({ rawSize: 5n }, 'r'), Reason.WRONG_SIZE],
    [of(zstdCompressSync(new Uint8Array(2 ** 26)).subarray(0, 40)), Reason.WRONG_SIZE],
    [of(zstdCompressSync(new Uint8Array(40))), Reason.WRONG_SIZE],
    [of(new Uint8Array(20).fill(9)), Reason.WRONG_SIZE],
    [of(zstdCompressSync(new Uint8Array(41).fill(255))), Reason.NOT_FINITE],
    [of(zstdCompressSync(new Uint8Array(41))), Reason.OFF_GRID],
    // It would be larger compressed.
    [of(new Uint8Array(41), 41n), Reason.WRONG_SIZE],
  ];
  for (const [update, reason] of refusals) {
    const { accepted, receipt } = await a.submit(update);
    expect(accepted).toBe(false);
    expect(fromBinary(ReceiptSchema, receipt!.receipt).outcome).toEqual({ case: 'rejected', value: reason });
  }
  // Damaged on its way, and not refused for good: the digest is of the bytes that are sent.
  const damaged = good();
  damaged.payload[10]! ^= 1;
  expect((await a.submit(damaged)).receipt).toBeUndefined();
  // A header whose raw size was damaged has another digest.
  const { header, payload } = good();
  expect((await a.submit({ header: { ...header, rawSize: 43n }, payload })).receipt).toBeUndefined();
  for (const agent of agents) {
    expect(await agent.submit(compressed(updateOf(agent.id, grid, { payload: payloadOf(agent.id) })))).toMatchObject({
      accepted: true,
    });
  }
  expect(await essence(service)).toBe(await essence(clean.service));
});

test('a task without compression refuses what is compressed', async () => {
  const { agents, grid } = await begun({ compression: 'none' });
  const { receipt } = await agents[0]!.submit(compressed(updateOf('a', grid, { payload: payloadOf('a') })));
  expect(fromBinary(ReceiptSchema, receipt!.receipt).outcome.value).toBe(Reason.WRONG_ENCODING);
});

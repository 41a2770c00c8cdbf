import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { encodings, type GridSpec } from '@commonweight/core';
import { ManifestSchema, Reason, ReceiptSchema } from '@commonweight/proto';
import { afterEach, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { invited, LENGTH, startTraining, TestAgent, TOP_K, updateOf } from '../../../test/support/training.ts';
import { openCoordinator } from '../coordinator.ts';
import type { CoordinatorService } from '../service.ts';

const open: CoordinatorService[] = [];
afterEach(async () => {
  for (const service of open.splice(0)) await service.close();
});

const KIND = 'topk-mxint8';

async function begun(changes: object = {}) {
  const dataDir = join(temporaryFolder('sparse'), 'data');
  const service = await openCoordinator({ dataDir });
  open.push(service);
  await startTraining(service, { encoding: 'mxint8', topK: TOP_K, ...changes });
  const agents = ['a', 'b', 'c'].map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  return { dataDir, service, agents, grid: await invited(agents) };
}

const sparse = (id: string, grid: GridSpec, payload?: Uint8Array) =>
  updateOf(id, grid, payload === undefined ? {} : { payload }, { encoding: KIND, topK: TOP_K });

async function weightsDigest(service: CoordinatorService): Promise<string> {
  const { version, artifacts } = fromBinary(ManifestSchema, (await service.getModel('flowers', 0)).manifest);
  expect(version).toBe(2n);
  return Buffer.from(artifacts.find(({ role }) => role === 'weights')!.digest).toString('hex');
}

test('an invitation says which share of the values to send', async () => {
  const { agents } = await begun();
  expect(agents[0]!.assignments()[0]).toMatchObject({ topK: TOP_K });
});

test('bad updates of the largest values are refused by their reason, and the result is bit-equal to the round without them', async () => {
  const clean = await begun();
  for (const agent of clean.agents) await agent.submit(sparse(agent.id, clean.grid));
  const { service, agents, grid } = await begun();
  const { payload } = sparse('a', grid);
  const harmed = (change: (bytes: Uint8Array) => void, extra = 0): Uint8Array => {
    const bytes = new Uint8Array(payload.length + extra);
    bytes.set(payload);
    change(bytes);
    return bytes;
  };
  const all = encodings[KIND].encode(new Float32Array(LENGTH).fill(1), grid, { uniform: () => 0.5 } as never, 1);
  // The table, a bitmap of five bytes, one exponent, ten elements.
  expect(payload.length).toBe(4 + 5 + 1 + 10);
  const refusals: [Uint8Array, Reason][] = [
    [payload.subarray(0, 3), Reason.WRONG_SIZE],
    [payload.subarray(0, payload.length - 1), Reason.WRONG_SIZE],
    [harmed(() => {}, 1), Reason.WRONG_SIZE],
    [all, Reason.WRONG_SIZE],
    [harmed((bytes) => (bytes[0] = 11)), Reason.WRONG_SIZE],
    [harmed((bytes) => (bytes[0] = 255)), Reason.WRONG_SIZE],
    [harmed((bytes) => (bytes[8]! |= 0x80)), Reason.WRONG_SIZE],
    [harmed((bytes) => bytes.fill(0xff, 4, 9)), Reason.WRONG_SIZE],
    [harmed((bytes) => (bytes[9] = 255)), Reason.NOT_FINITE],
    [harmed((bytes) => (bytes[9] = 200)), Reason.VALUE_TOO_LARGE],
    [harmed((bytes) => (bytes[9] = 1)), Reason.OFF_GRID],
  ];
  const [a] = agents as [TestAgent];
  for (const [bad, reason] of refusals) {
    const { accepted, receipt } = await a.submit(sparse('a', grid, bad));
    expect(accepted).toBe(false);
    expect(fromBinary(ReceiptSchema, receipt!.receipt).outcome).toEqual({ case: 'rejected', value: reason });
  }
  const dense = updateOf('a', grid);
  expect(fromBinary(ReceiptSchema, (await a.submit(dense)).receipt!.receipt).outcome.value).toBe(Reason.WRONG_ENCODING);
  for (const agent of agents) expect(await agent.submit(sparse(agent.id, grid))).toMatchObject({ accepted: true });
  expect(await weightsDigest(service)).toBe(await weightsDigest(clean.service));
});

describe.each([
  ['the mean', {}],
  ['a rule that reads them from the spool', { strategy: { name: 'normBound' } }],
])('the largest values, with %s', (_, changes) => {
  test('the order of arrival never shows, nor in how many chunks an update comes', async () => {
    const digests = new Set<string>();
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
    ]) {
      const { service, agents, grid, dataDir } = await begun(changes);
      for (const i of order) {
        const { header, payload } = sparse(agents[i]!.id, grid);
        for (let at = 0; at < payload.length; at += 7) {
          await service.submitChunk(agents[i]!.id, header, at, payload.subarray(at, at + 7));
        }
        expect((await service.updateStatus(header.updateId)).accepted || i === order.at(-1)).toBe(true);
      }
      digests.add(await weightsDigest(service));
      expect(existsSync(join(dataDir, 'spool'))).toBe('strategy' in changes);
    }
    expect(digests.size).toBe(1);
  });
});

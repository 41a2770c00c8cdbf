import { zstdCompressSync } from 'node:zlib';
import { create } from '@bufbuild/protobuf';
import { ExactSum, logistic, toPlanes, writeModel, type GridSpec } from '@commonweight/core';
import {
  PART_UPDATES_MAX,
  PartHeaderSchema,
  RelayService,
  type PartHeader,
  type SubmitPartResponse,
  type UpdateHeader,
} from '@commonweight/proto';
import { afterEach, expect, test } from 'vitest';
import { grpcClient } from '../../../test/support/grpc.ts';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { essenceOf, newestOf } from '../../../test/support/replicas.ts';
import { config, invited, LENGTH, sealed, sha256, TestAgent, updateOf } from '../../../test/support/training.ts';
import { openCoordinator } from '../coordinator.ts';
import { serveGrpc } from '../edges/grpc/server.ts';
import type { CoordinatorService } from '../service.ts';

const IDS = ['a', 'b', 'c'];
const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

type Update = ReturnType<typeof updateOf>;

/** A round of three that is open, and an update of each. */
async function opened(changes: object = {}) {
  const service = await openCoordinator({ dataDir: temporaryFolder('parts') });
  open.push(service);
  await service.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
  await service.createTask('train', JSON.stringify({ ...config, ...changes }));
  const agents = IDS.map((id) => new TestAgent(service, id));
  for (const agent of agents) agent.ready();
  await service.startTask('train');
  const grid = await invited(agents);
  return { service, agents, grid, updates: IDS.map((id) => updateOf(id, grid)) };
}

function sumOf(updates: readonly Update[], grid: GridSpec, weightOf = ({ weight }: UpdateHeader) => Number(weight)) {
  const sum = new ExactSum(LENGTH, grid);
  for (const { header, payload } of updates) expect(sum.add('mxint8', payload, weightOf(header))).toBeUndefined();
  return sum.toBytes();
}

const packed = (sum: Uint8Array): Uint8Array => new Uint8Array(zstdCompressSync(toPlanes(sum)));

function headerOf(headers: readonly UpdateHeader[], sum: Uint8Array, changes: Partial<PartHeader> = {}): PartHeader {
  const [round, baseVersion] = [1n, 1n];
  const named = { task: 'train', round, baseVersion, updates: headers.length };
  const bytes = { sumDigest: sha256(sum), sumSize: BigInt(sum.length) };
  return create(PartHeaderSchema, { ...named, ...bytes, ...(changes as object) });
}

const submit = (
  service: CoordinatorService,
  headers: readonly UpdateHeader[],
  sum: Uint8Array,
): Promise<SubmitPartResponse> => service.submitPart(headerOf(headers, sum), { updates: headers, packed: sum });

const headersOf = (updates: readonly Update[]): UpdateHeader[] => updates.map(({ header }) => header);
const version = async (service: CoordinatorService): Promise<number> => Number((await newestOf(service)).version);

test('a part counts as its updates do: the same version to the bit', async () => {
  const whole = await opened();
  for (const [i, agent] of whole.agents.entries()) await agent.submit(whole.updates[i]!);
  await expect.poll(() => version(whole.service)).toBe(2);
  const { service, grid, updates } = await opened();
  expect(await submit(service, headersOf(updates), packed(sumOf(updates, grid)))).toMatchObject({ accepted: true });
  await expect.poll(() => version(service)).toBe(2);
  expect(await essenceOf(service)).toBe(await essenceOf(whole.service));
});

test('the same part again is held, and counts once', async () => {
  const { service, agents, grid, updates } = await opened();
  const two = updates.slice(0, 2);
  const part = packed(sumOf(two, grid));
  expect(await submit(service, headersOf(two), part)).toMatchObject({ accepted: true });
  const again = await submit(service, headersOf(two), part);
  expect(again).toMatchObject({ accepted: false, refused: [{ held: true }, { held: true }] });
  await agents[2]!.submit(updates[2]!);
  await expect.poll(() => version(service)).toBe(2);
  expect((await newestOf(service)).totalWeight).toBe(30n);
});

test('what must not count is refused, nothing of it counts, and the round goes on', async () => {
  const reference = await opened();
  for (const [i, agent] of reference.agents.entries()) await agent.submit(reference.updates[i]!);
  await expect.poll(() => version(reference.service)).toBe(2);

  const { service, agents, grid, updates } = await opened();
  const two = updates.slice(0, 2);
  const headers = headersOf(two);
  const sum = sumOf(two, grid);
  const refused = async (part: Uint8Array, why: RegExp, of = headers): Promise<void> => {
    await expect(submit(service, of, part)).rejects.toThrow(why);
  };
  const edited = (edit: (view: DataView) => void): Uint8Array => {
    const other = sum.slice();
    edit(new DataView(other.buffer));
    return packed(other);
  };
  await refused(packed(sumOf(two, grid, () => 11)), /its weight is 22, and that of its updates 20/);
  await refused(
    edited((view) => view.setUint32(20, 3, true)),
    /it sums 3 updates and lists 2/,
  );
  await refused(
    edited((view) => view.setInt32(4, -10, true)),
    /not on the grid/,
  );
  await refused(
    edited((view) => view.setBigInt64(32, 2n ** 62n, true)),
    /larger than its updates together/,
  );
  await refused(packed(new Uint8Array(sum.length - 8)), /not the sum of 39 values/);
  await refused(packed(new Uint8Array(2 ** 20)), /not the sum of 39 values/);
  await refused(sum, /not the sum of 39 values/);
  await refused(packed(sum), /one update of each of its agents/, [headers[0]!, headers[0]!]);
  const stolen = sealed({ ...headers[0]!, agentId: 'c' });
  await refused(packed(sum), /an update that is none of c/, [stolen, headers[1]!]);
  await refused(packed(sum), /header of the update of a is damaged/, [{ ...headers[0]!, weight: 9n }, headers[1]!]);
  await expect(
    service.submitPart(headerOf(headers, sum, { task: 'other' }), { updates: headers, packed: sum }),
  ).rejects.toThrow(/there is no task "other"/);

  const stranger = updateOf('stranger', grid);
  const withStranger = await submit(service, [headers[0]!, stranger.header], packed(sumOf([two[0]!, stranger], grid)));
  expect(withStranger).toMatchObject({
    accepted: false,
    refused: [{ held: false }],
  });
  expect([...withStranger.refused[0]!.updateId]).toEqual([...stranger.header.updateId]);
  expect(withStranger.refused[0]!.receipt).toBeDefined();

  // The honest ones count all the same, and nothing else does.
  expect(await submit(service, headers, packed(sum))).toMatchObject({ accepted: true });
  await agents[2]!.submit(updates[2]!);
  await expect.poll(() => version(service)).toBe(2);
  expect((await newestOf(service)).totalWeight).toBe(30n);
  expect((await service.getTask('train')).roundsAbandoned).toBe(0n);
  const [own, other] = [await newestOf(service), await newestOf(reference.service)];
  expect(own.artifacts).toEqual(other.artifacts);
});

test('a round that must see each update takes no part', async () => {
  for (const changes of [{ strategy: { name: 'median' } }, { retainUpdates: 1 }]) {
    const { service, grid, updates } = await opened(changes);
    expect(service.folding('train', 1)).toBeUndefined();
    await expect(submit(service, headersOf(updates), packed(sumOf(updates, grid)))).rejects.toThrow(/by itself/);
  }
});

test('over gRPC: what does not keep to its header is refused before it takes room', async () => {
  const { service, grid, updates } = await opened();
  const edge = await serveGrpc(service, { host: '127.0.0.1', port: 0 });
  open.push(edge);
  const client = grpcClient(RelayService, edge.port);
  open.push({ close: async () => client.close() });
  const sum = packed(sumOf(updates, grid));
  const headers = headersOf(updates);
  const send = (...messages: object[]): Promise<SubmitPartResponse> =>
    new Promise((resolve, reject) => {
      const call = client.writes<object, never>('submitPart', (error, answer: SubmitPartResponse) =>
        error === null ? resolve(answer) : reject(error),
      );
      call.on('error', reject);
      for (const message of messages) call.write(create(RelayService.method.submitPart.input, message));
      call.end();
    });
  const header = headerOf(headers, sum);
  await expect(send({ data: sum })).rejects.toThrow(/must carry its header/);
  await expect(send({ header: { ...header, sumSize: 2n ** 40n } })).rejects.toThrow(/a part has 1 to/);
  await expect(send({ header: { ...header, updates: PART_UPDATES_MAX + 1 } })).rejects.toThrow(/a part has 1 to/);
  await expect(send({ header, updates: headers }, { data: new Uint8Array(sum.length + 1) })).rejects.toThrow(/larger/);
  await expect(send({ header, updates: [...headers, ...headers] })).rejects.toThrow(/larger than its header says/);
  await expect(send({ header, updates: headers }, { data: sum.subarray(1) })).rejects.toThrow(/not those that/);
  const damaged = sum.with(9, sum[9]! ^ 1);
  await expect(send({ header, updates: headers, data: damaged })).rejects.toThrow(/not those that/);
  expect(await send({ header, updates: headers.slice(0, 1) }, { updates: headers.slice(1), data: sum })).toMatchObject({
    accepted: true,
  });
  await expect.poll(() => version(service)).toBe(2);
});

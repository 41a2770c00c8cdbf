import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { LogHistogram } from '@commonweight/core';
import { ClientReportSchema, SwapFault, SwapOutcome, type ClientReport } from '@commonweight/proto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ServiceError } from '../service.ts';
import { checkedReports } from './checked-report.ts';
import { FleetReports } from './fleet-reports.ts';

type Init = MessageInitShape<typeof ClientReportSchema>;

let ids = 0;
/** A number as bytes, the lowest first. */
const bytes = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => Math.floor(seed / 256 ** i) % 256);

const reportOf = (client: number, more: Init = {}): ClientReport =>
  create(ClientReportSchema, {
    model: 'm',
    channel: 'stable',
    client: bytes(16, client),
    id: bytes(8, (ids += 1)),
    version: 1n,
    variant: 'fp32',
    runtime: 'onnxruntime-node 1.30.0 linux-x64',
    ...more,
  });

const sketch = (ms: number, count: number): { buckets: number[]; counts: bigint[] } => {
  const histogram = new LogHistogram();
  histogram.add(ms);
  return { buckets: [...histogram.entries()].map(([bucket]) => bucket), counts: [BigInt(count)] };
};

const checked = (reports: readonly ClientReport[], newest = 9) =>
  checkedReports(reports, () => Promise.resolve(newest));

async function take(fleet: FleetReports, nowMs: number, ...reports: ClientReport[]): Promise<void> {
  for (const report of await checked(reports)) fleet.take(report, nowMs);
}

const WINDOW = 1000;

test('what clients run and how it does is summed up by version, each client weighing the same', async () => {
  const fleet = new FleetReports({ windowMs: WINDOW });
  for (let client = 0; client < 10; client += 1) {
    const version = client < 8 ? 1n : 2n;
    // One of version 1 predicts a thousand times as often as the others, and always fails.
    const [predictions, errors] = client === 0 ? [100_000n, 100_000n] : [100n, 0n];
    const latency = errors > 0n ? {} : { latency: sketch(client < 8 ? 2 : 20, 100) };
    await take(
      fleet,
      10,
      reportOf(client, { version, uses: [{ version, variant: 'fp32', predictions, errors, ...latency }] }),
    );
  }
  const status = fleet.fleet('m', 20);
  expect(status.clients).toBe(10);
  expect(
    status.versions.map(({ version, clients, predictions, failing }) => [version, clients, predictions, failing]),
  ).toEqual([
    [2n, 2, 200n, 0],
    [1n, 8, 100_700n, 0.125],
  ]);
  expect(status.versions[1]?.latencyP50Ms).toBeCloseTo(2, 0);
  expect(status.versions[0]).toMatchObject({
    variants: { fp32: 2 },
    runtimes: { 'onnxruntime-node 1.30.0 linux-x64': 2 },
  });
});

test('a client counts once in a window, however often it reports, and a report that is sent again counts once', async () => {
  const fleet = new FleetReports({ windowMs: WINDOW });
  const first = reportOf(1, { uses: [{ version: 1n, predictions: 10n, errors: 1n }] });
  await take(fleet, 0, first, first, reportOf(1, { uses: [{ version: 1n, predictions: 10n, errors: 2n }] }));
  expect(fleet.evidence('m', 1, 10).at(-1)).toMatchObject({
    clients: 1,
    predictions: 20,
    failing: { count: 1, sum: 0.15 },
  });
  expect(fleet.counts).toMatchObject({ taken: 2, again: 1 });
});

test('windows follow one another, and what is old is forgotten', async () => {
  const fleet = new FleetReports({ windowMs: WINDOW });
  for (let window = 0; window < 8; window += 1)
    await take(fleet, window * WINDOW, reportOf(1, { uses: [{ version: 1n, predictions: BigInt(window + 1) }] }));
  const predictions = (nowMs: number): number[] =>
    fleet.evidence('m', 1, nowMs).map((evidence) => evidence.predictions);
  expect(predictions(7 * WINDOW)).toEqual([3, 4, 5, 6, 7, 8]);
  expect(predictions(11 * WINDOW)).toEqual([7, 8, 0, 0, 0, 0]);
  expect(predictions(13 * WINDOW)).toEqual([0, 0, 0, 0, 0, 0]);
});

test('what was said before a rollout of its version began does not count', async () => {
  const fleet = new FleetReports({ windowMs: WINDOW });
  await take(fleet, 0, reportOf(1, { uses: [{ version: 2n, predictions: 10n, errors: 10n }] }));
  await take(
    fleet,
    WINDOW,
    reportOf(1, {
      uses: [
        { version: 2n, predictions: 10n },
        { version: 1n, predictions: 5n },
      ],
    }),
  );
  fleet.forget('m', 2);
  const all = (version: number): number =>
    fleet.evidence('m', version, WINDOW).reduce((sum, { predictions }) => sum + predictions, 0);
  expect([all(1), all(2)]).toEqual([5, 0]);
});

test('swaps and faults are counted, and a client that took a version back is one of those that did', async () => {
  const fleet = new FleetReports({ windowMs: WINDOW });
  const swaps = [{ outcome: SwapOutcome.REVERTED, fault: SwapFault.NOT_FINITE, count: 3 }];
  await take(fleet, 0, reportOf(1, { uses: [{ version: 2n, swaps }] }));
  await take(fleet, 0, reportOf(2, { uses: [{ version: 2n, swaps: [{ outcome: SwapOutcome.COMMITTED, count: 1 }] }] }));
  expect(fleet.fleet('m', 0).versions[0]).toMatchObject({ reverted: 3n, committed: 1n, faults: { 'not-finite': 3n } });
  expect(fleet.evidence('m', 2, 0).at(-1)?.reverting).toEqual({ count: 2, sum: 1, squares: 1 });
});

test('shadows are summed up by the pair of versions', async () => {
  const fleet = new FleetReports({ windowMs: WINDOW });
  const shadow = {
    version: 2n,
    champion: 1n,
    predictions: 10n,
    errors: 2n,
    rows: 8n,
    agreeing: 6n,
    latency: sketch(4, 8),
  };
  await take(fleet, 0, reportOf(1, { shadows: [{ ...shadow, differenceMax: 0.5, differenceSum: 0.8 }] }));
  await take(fleet, 0, reportOf(2, { shadows: [{ ...shadow, agreeing: 8n, differenceMax: 0.1, differenceSum: 0.4 }] }));
  const [said] = fleet.fleet('m', 0).shadows;
  expect(said).toMatchObject({
    version: 2n,
    champion: 1n,
    predictions: 20n,
    errors: 4n,
    rows: 16n,
    differenceMax: 0.5,
  });
  expect(said?.agreement).toBeCloseTo(0.875);
  expect(said?.differenceMean).toBeCloseTo(0.075);
});

test('a snapshot is gone on with, and what comes after it adds up', async () => {
  const fleet = new FleetReports({ windowMs: WINDOW });
  const use = (predictions: bigint) => ({
    version: 1n,
    predictions,
    latency: sketch(3, Number(predictions)),
    labelled: 2n,
    right: 1n,
  });
  await take(fleet, 0, reportOf(1, { uses: [use(20n)] }), reportOf(2, { uses: [use(30n)] }));
  const [snapshot] = fleet.snapshots(10);
  expect(fleet.snapshots(20)).toEqual([]);
  const again = new FleetReports({ windowMs: WINDOW });
  again.restore('m', snapshot!.text);
  expect(again.evidence('m', 1, 20)).toEqual(fleet.evidence('m', 1, 20));
  await take(again, 30, reportOf(3, { uses: [use(10n)] }));
  expect(again.evidence('m', 1, WINDOW - 1).at(-1)).toMatchObject({ clients: 3, predictions: 60 });
  const other = new FleetReports({ windowMs: 2 * WINDOW });
  other.restore('m', snapshot!.text);
  expect(other.evidence('m', 1, 20).at(-1)?.clients).toBe(0);
});

test('there is room for so many clients; those that are away make room', async () => {
  const fleet = new FleetReports({ windowMs: WINDOW, clientsMax: 3 });
  for (const client of [1, 2, 3, 4]) await take(fleet, 0, reportOf(client));
  expect(fleet.counts).toMatchObject({ taken: 3, full: 1 });
  expect(fleet.fleet('m', 0).clients).toBe(3);
  await take(fleet, 16 * 60_000, reportOf(4));
  expect(fleet.fleet('m', 16 * 60_000).clients).toBe(1);
});

test('the more clients there are, the fewer reports are asked of each', async () => {
  const fleet = new FleetReports();
  expect(fleet.nextAfterMs()).toBe(1_000);
  for (let client = 0; client < 20_000; client += 1) await take(fleet, 0, reportOf(client));
  expect(fleet.nextAfterMs()).toBe(100_000);
});

test.each<[string, Init, RegExp]>([
  ['a client without an id', { client: new Uint8Array(3) }, /a client of 16 bytes/],
  ['a strange channel', { channel: 'a b' }, /names a model and a channel/],
  ['a long runtime', { runtime: 'x'.repeat(65) }, /up to 64 characters/],
  ['a runtime that hides', { runtime: 'a\u0000b' }, /up to 64 characters/],
  ['a version that is not there', { version: 10n }, /is not there/],
  ['more errors than predictions', { uses: [{ version: 1n, predictions: 1n, errors: 2n }] }, /no more errors/],
  ['more right than labelled', { uses: [{ version: 1n, labelled: 1n, right: 2n }] }, /no more errors/],
  ['counts that nobody has', { uses: [{ version: 1n, predictions: 2n ** 60n }] }, /counts up to/],
  [
    'times of nothing',
    { uses: [{ version: 1n, latency: { buckets: [1], counts: [1n] } }] },
    /no more than its predictions/,
  ],
  [
    'a bucket beyond',
    { uses: [{ version: 1n, predictions: 9n, latency: { buckets: [96], counts: [1n] } }] },
    /96 buckets/,
  ],
  [
    'buckets that fall',
    { uses: [{ version: 1n, predictions: 9n, latency: { buckets: [5, 4], counts: [1n, 1n] } }] },
    /that rise/,
  ],
  ['many versions', { uses: Array.from({ length: 9 }, () => ({ version: 1n })) }, /8 versions at most/],
  [
    'a difference that is none',
    { shadows: [{ version: 2n, champion: 1n, differenceMax: Number.NaN }] },
    /no more errors/,
  ],
])('%s is refused by what is wrong', async (_, more, message) => {
  await expect(checked([reportOf(1, more)])).rejects.toThrow(message);
  await expect(checked([reportOf(1, more)])).rejects.toBeInstanceOf(ServiceError);
});

test('many models in one report, and models that are not there, are refused', async () => {
  await expect(checked(Array.from({ length: 17 }, (_, i) => reportOf(i)))).rejects.toThrow(/16 models at most/);
  await expect(checked([reportOf(1)], 0)).rejects.toThrow(/is not there/);
});

test('whatever is reported, sums stay sums: counts add up, shares are shares, and no client weighs more than another', async () => {
  const count = fc.integer({ min: 0, max: 1000 });
  const said = fc.record({
    client: fc.integer({ min: 1, max: 6 }),
    predictions: count,
    errors: count,
    afterMs: fc.integer({ min: 0, max: 900 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(said, { maxLength: 40 }), async (all) => {
      const fleet = new FleetReports({ windowMs: WINDOW });
      let nowMs = 0;
      for (const { client, predictions, errors, afterMs } of all) {
        nowMs += afterMs;
        const counts = { predictions: BigInt(predictions), errors: BigInt(Math.min(errors, predictions)) };
        await take(fleet, nowMs, reportOf(client, { uses: [{ version: 1n, ...counts }] }));
      }
      for (const { clients, failing } of fleet.evidence('m', 1, nowMs)) {
        expect(clients).toBeLessThanOrEqual(6);
        expect(failing.count).toBeLessThanOrEqual(clients);
        expect(failing.sum).toBeLessThanOrEqual(failing.count);
      }
    }),
  );
});

import { create } from '@bufbuild/protobuf';
import { ReportUseResponseSchema, SwapFault, SwapOutcome, type ClientReport } from '@commonweight/proto';
import { expect, test } from 'vitest';
import { MemoryLink } from '../../../test/support/memory-link.ts';
import { TransportError } from '../errors.ts';
import { sha256 } from '../trust/sha256.ts';
import { Reporter, type ReportOptions } from './reporter.ts';
import { UseCounts } from './use-counts.ts';

/** Keeps what is reported, and fails as it is told. */
class Coordinator extends MemoryLink {
  readonly heard: ClientReport[][] = [];
  failure: Error | undefined;
  nextAfterMs = 0;

  report(reports: ClientReport[]) {
    this.heard.push(reports);
    if (this.failure !== undefined) return Promise.reject(this.failure);
    return Promise.resolve(create(ReportUseResponseSchema, { nextAfterMs: this.nextAfterMs }));
  }
}

function reporting(options: ReportOptions = { everyMs: 100 }, clientId = 'client') {
  const link = new Coordinator();
  const reporter = new Reporter({ link, clientId, sha256, random: () => 0 }, options);
  const uses = new UseCounts();
  const model = { name: 'm', channel: 'stable', uses, version: () => 7, variant: () => 'fp32', runtime: 'ort 1' };
  return { link, reporter, uses, end: reporter.add(model) };
}

test('a report says what runs and what was counted, by a hash of who says so', async () => {
  const { link, reporter, uses } = reporting();
  uses.predicted(7, 'fp32', 1.5);
  uses.predicted(7, 'fp32', 1.5);
  uses.failed(7);
  uses.reverted(6, 'not_finite');
  uses.labelled(7, 2, 1);
  await expect.poll(() => link.heard.length, { timeout: 20_000 }).toBeGreaterThan(0);
  await reporter.close();
  const [[report]] = link.heard as [[ClientReport]];
  expect(report).toMatchObject({ model: 'm', channel: 'stable', version: 7n, variant: 'fp32', runtime: 'ort 1' });
  expect(Buffer.from(report.client)).toEqual(
    Buffer.from(sha256(new TextEncoder().encode('commonweight.v1.Client\nclient\nm'))).subarray(0, 16),
  );
  expect(report.uses.map(({ version }) => version)).toEqual([7n, 6n]);
  expect(report.uses[0]).toMatchObject({
    predictions: 3n,
    errors: 1n,
    labelled: 2n,
    right: 1n,
    latency: { buckets: [30], counts: [2n] },
  });
  expect(report.uses[1]?.swaps).toMatchObject([
    { outcome: SwapOutcome.REVERTED, fault: SwapFault.NOT_FINITE, count: 1 },
  ]);
});

test('what was not taken is sent again as it was, with its id, and what comes meanwhile goes after it', async () => {
  const { link, reporter, uses } = reporting();
  link.failure = new TransportError('deadline', 'late');
  uses.predicted(7, 'fp32', 1);
  await expect.poll(() => link.heard.length, { timeout: 20_000 }).toBe(1);
  uses.predicted(7, 'fp32', 1);
  link.failure = undefined;
  await expect.poll(() => link.heard.length, { timeout: 20_000 }).toBeGreaterThanOrEqual(3);
  await reporter.close();
  const [first, again, next] = link.heard.map(([report]) => report!);
  expect(again).toEqual(first);
  expect(Buffer.from(next!.id)).not.toEqual(Buffer.from(first!.id));
  expect(next!.uses).toMatchObject([{ predictions: 1n }]);
});

test('closing sends what was counted last; a coordinator that takes no reports is not asked again', async () => {
  const closing = reporting({ everyMs: 3_600_000 });
  closing.uses.predicted(7, 'fp32', 1);
  await closing.reporter.close();
  expect(closing.link.heard).toMatchObject([[{ uses: [{ predictions: 1n }] }]]);
  const old = reporting();
  old.link.failure = new TransportError('invalid', 'unimplemented');
  await expect.poll(() => old.link.heard.length, { timeout: 20_000 }).toBe(1);
  await new Promise((resolve) => setTimeout(resolve, 500));
  await old.reporter.close();
  expect(old.link.heard).toHaveLength(1);
});

test('the coordinator may ask for fewer reports', async () => {
  const { link, reporter } = reporting();
  link.nextAfterMs = 3_600_000;
  await expect.poll(() => link.heard.length, { timeout: 20_000 }).toBe(1);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(link.heard).toHaveLength(1);
  await reporter.close();
});

test('with a share, each installation always reports or never does', async () => {
  const ids = Array.from({ length: 40 }, (_, i) => `client ${i}`);
  const chosen = async (): Promise<string[]> => {
    const all = ids.map((id) => ({ id, ...reporting({ everyMs: 3_600_000, share: 0.5 }, id) }));
    await Promise.all(all.map(({ reporter }) => reporter.close()));
    return all.filter(({ link }) => link.heard.length > 0).map(({ id }) => id);
  };
  const first = await chosen();
  expect(await chosen()).toEqual(first);
  expect(first.length).toBeGreaterThan(8);
  expect(first.length).toBeLessThan(32);
  expect(() => reporting({ share: 2 })).toThrow('reports.share is a number from 0 to 1');
  expect(() => reporting({ everyMs: 1 })).toThrow('reports.everyMs is a number from 100');
});

test('of more versions than a report takes the oldest go', () => {
  const uses = new UseCounts();
  for (let version = 1; version <= 20; version += 1) uses.predicted(version, 'fp32', 1);
  expect(uses.take().uses.map(({ version }) => version)).toEqual([13n, 14n, 15n, 16n, 17n, 18n, 19n, 20n]);
  expect(uses.take()).toEqual({ uses: [], shadows: [] });
});

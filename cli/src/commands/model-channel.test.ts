import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { create } from '@bufbuild/protobuf';
import { logistic, writeModel } from '@commonweight/core';
import { ClientReportSchema, SwapFault, SwapOutcome } from '@commonweight/proto';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';
import { publishNext } from '../../../test/support/publish-next.ts';

const FLAGS = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];

let coordinator: RunningCoordinator;

const model = (...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
  new Promise((resolve) => {
    const main = join(import.meta.dirname, '..', 'main.ts');
    const where = ['--coordinator', `grpc://127.0.0.1:${coordinator.grpcPort}`];
    const child = execFile(process.execPath, [...FLAGS, main, 'model', ...args, ...where], (_, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });

beforeAll(async () => {
  const dataDir = join(temporaryFolder('channel-cli'), 'data');
  coordinator = await startCoordinator({ dataDir, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  await coordinator.service.importModel('digits', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
  await publishNext(coordinator.service, 'digits', 0.1);
});
afterAll(() => coordinator.close());

test('a channel is made, gets a rollout, is held, released and rolled back, and says so', async () => {
  expect((await model('promote', 'digits@1', '--channel', 'stable')).stdout).toBe(
    'channel stable of digits: version 1\n',
  );
  const share = await model('promote', 'digits', '--channel', 'stable', '--percent', '10', '--cohort', 'region=eu');
  expect(share.stdout).toMatch(
    /^channel stable of digits: version 1, version 2 for 10 % of region=eu; reports: unknown /,
  );
  expect((await model('hold', 'digits', '--channel', 'stable', '--reason', 'holidays')).stdout).toMatch(
    /; held \(holidays\)\n$/,
  );
  expect(await model('promote', 'digits', '--channel', 'stable')).toEqual({
    code: 1,
    stdout: '',
    stderr: 'commonweight: channel stable of digits is held (holidays): release it first\n',
  });
  expect((await model('release', 'digits', '--channel', 'stable')).code).toBe(0);
  const listed = await model('channels', 'digits');
  expect(listed.stdout).toMatch(/^latest +2 +always the newest version$/m);
  expect(listed.stdout).toMatch(/^stable +1 +4 +version 2 for 10 % of region=eu/m);
  expect(listed.stdout).toMatch(/stable: version 2 to 10 % of region=eu$/m);
  expect((await model('show', 'digits')).stdout).toMatch(/in stable 10 %$/m);
  expect((await model('rollback', 'digits', '--channel', 'stable')).stdout).toBe(
    'channel stable of digits: version 1\n',
  );
  const { stdout } = await model('promote', 'digits', '--channel', 'stable', '--json');
  expect(JSON.parse(stdout)).toMatchObject({ event: 'promoted', channel: 'stable', version: 2, versionBefore: 1 });
});

test('a fleet is shown by version, and that nobody has reported is said', async () => {
  expect((await model('fleet', 'digits')).stdout).toBe('digits: no app has reported\n');
  await coordinator.service.reportUse([
    create(ClientReportSchema, {
      model: 'digits',
      channel: 'stable',
      client: new Uint8Array(16),
      id: new Uint8Array(8),
      version: 1n,
      variant: 'fp32',
      uses: [
        {
          version: 1n,
          predictions: 200n,
          errors: 3n,
          latency: { buckets: [30], counts: [197n] },
          labelled: 4n,
          right: 3n,
        },
        { version: 2n, swaps: [{ outcome: SwapOutcome.REVERTED, fault: SwapFault.SLOW, count: 1 }] },
      ],
    }),
  ]);
  const { stdout } = await model('fleet', 'digits');
  expect(stdout).toMatch(/^digits: 1 apps; counts since /);
  expect(stdout).toMatch(/^1 +1 +200 +1.5 % +1.5 ms +1.5 ms +0 +0 +75.0 % of 4 +fp32 1$/m);
  expect(stdout).toMatch(/^2 +0 +0 +0 +1$/m);
  expect(stdout).toMatch(/^ +version 2: slow 1$/m);
  expect((await model('fleet', 'nothing')).stderr).toMatch(/there is no model "nothing"/);
});

test.each([
  ['no channel', ['promote', 'digits'], /required option '--channel <name>' not specified/],
  ['a time without stages', ['promote', 'digits', '--channel', 's', '--every', '1h'], /--every goes with --stages/],
  ['stages without a time', ['promote', 'digits', '--channel', 's', '--stages', '1,100'], /--stages needs --every/],
  ['a strange time', ['promote', 'digits', '--channel', 's', '--stages', '1,100', '--every', '5'], /such as 45s, 30m/],
  ['a strange share', ['promote', 'digits', '--channel', 's', '--percent', '101'], /above 0, and up to 100/],
  ['a strange cohort', ['promote', 'digits', '--channel', 's', '--cohort', 'eu'], /Give key=value, such as region=eu/],
  ['a strange guard', ['promote', 'digits', '--channel', 's', '--guard', 'luck=1'], /Give one of clients, predictions/],
  ['a rollback of nothing', ['rollback', 'digits'], /say which version with --to, or which channel/],
])('%s is wrong usage', async (_, args, words) => {
  const { code, stderr } = await model(...args);
  expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(words) as string });
});

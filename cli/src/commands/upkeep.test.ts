import { startCoordinator } from '@commonweight/coordinator';
import { logistic, writeModel } from '@commonweight/core';
import { ManifestSchema } from '@commonweight/proto';
import { fromBinary } from '@bufbuild/protobuf';
import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from '../../../test/support/processes.ts';

const FLAGS = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];

const commonweight = (...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
  new Promise((resolve) => {
    const main = join(import.meta.dirname, '..', 'main.ts');
    const child = execFile(process.execPath, [...FLAGS, main, ...args], (_, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });

const [data, backup] = [join(temporaryFolder('upkeep'), 'data'), join(temporaryFolder('upkeep'), 'backup')];
let weights: Uint8Array;
let bytes: Uint8Array;

beforeAll(async () => {
  const { service, close } = await startCoordinator({ dataDir: data, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  const { manifest } = await service.importModel('flowers', writeModel(logistic({ inputs: 12, outputs: 3, seed: 1 })));
  const { digest, size } = fromBinary(ManifestSchema, manifest).artifacts.find(({ role }) => role === 'weights')!;
  weights = digest;
  bytes = (await service.readBlob(digest, 0, Number(size))).data;
  await close();
  expect(await commonweight('backup', backup, '--data', data)).toMatchObject({ code: 0 });
});

const blob = (): string => Buffer.from(weights).toString('hex');

function damage(): void {
  const database = new DatabaseSync(join(data, 'commonweight.sqlite'));
  database.prepare('UPDATE blob_chunks SET data = zeroblob(length(data)) WHERE digest = ?').run(weights);
  database.close();
}

test('damage is named with its mend, and mended from a backup', async () => {
  damage();
  const { code, stdout, stderr } = await commonweight('verify', '--data', data);
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: `commonweight: ${data} is damaged in 1 places: mend its blobs with --repair-from, or restore it from a backup\n`,
  });
  expect(stdout).toContain(
    `DAMAGED: version 1 of flowers: its weights cannot be read: blob ${blob()} is damaged on disk`,
  );
  const mended = await commonweight('verify', '--data', data, '--repair-from', backup);
  expect(mended).toMatchObject({ code: 0, stderr: '' });
  expect(mended.stdout).toContain(`repaired: blob ${blob()} from ${backup}\n`);
  expect(mended.stdout).toContain(`${data}: whole\n`);
});

test('damage is mended from a coordinator that runs, and a second time there is nothing to do', async () => {
  damage();
  const peer = await startCoordinator({ dataDir: backup, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  const from = ['--repair-from', `grpc://127.0.0.1:${peer.grpcPort}`];
  try {
    const mended = await commonweight('verify', '--data', data, '--json', ...from);
    expect(mended.stdout.split('\n')[0]).toBe(JSON.stringify({ event: 'repaired', blob: blob() }));
    expect(mended.code).toBe(0);
    const again = await commonweight('verify', '--data', data, ...from);
    expect(again.stdout).not.toContain('repaired');
    expect(again.code).toBe(0);
  } finally {
    await peer.close();
  }
});

test('damage is mended from what an agent has in its folder; what it does not have is said', async () => {
  damage();
  const agent = temporaryFolder('agent');
  mkdirSync(join(agent, 'blobs'));
  const left = await commonweight('verify', '--data', data, '--repair-from', agent);
  expect(left.stdout).toContain(`NOT REPAIRED: ${agent} has no blob ${blob()}\n`);
  expect(left.code).toBe(1);
  writeFileSync(join(agent, 'blobs', blob()), bytes);
  const mended = await commonweight('verify', '--data', data, '--repair-from', agent);
  expect(mended.stdout).toContain(`repaired: blob ${blob()} from ${agent}\n`);
  expect(mended.code).toBe(0);
});

test('a source that is none is wrong usage', async () => {
  const { code, stderr } = await commonweight('verify', '--data', data, '--repair-from', temporaryFolder('none'));
  expect({ code, stderr }).toEqual({
    code: 2,
    stderr: expect.stringContaining('has no blobs: give a backup') as string,
  });
});

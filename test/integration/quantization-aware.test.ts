/** A model that was trained for few bits loses less by them, and its versions say the ranges that the int8 form needs. */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { loadDataset } from '@commonweight/edge-agent';
import { rangesIn, readModel, writeModel } from '@commonweight/core';
import { afterAll, expect, test } from 'vitest';
import { adminOf } from '../support/admin.ts';
import { fewBits, firstOf, rightOn, smallCnn } from '../support/few-bits.ts';
import { freePort } from '../support/free-port.ts';
import { commonweight, listening, temporaryFolder, until, type Program } from '../support/processes.ts';

const folder = temporaryFolder('quantization-aware');
const programs: Program[] = [];
afterAll(async () => {
  for (const program of programs.reverse()) await program.end('SIGTERM');
  await rm(folder, { recursive: true });
});

test('with weights of 3 and of 2 bits, a CNN that was trained for them loses less than one that was not', async () => {
  const { float32, byBits } = await fewBits();
  // Measured: 1 to 2 points with 3 bits, about 20 with 2.
  expect(byBits[3].trainedFor).toBeGreaterThan(byBits[3].without);
  expect(byBits[2].trainedFor).toBeGreaterThan(byBits[2].without + 0.08);
  expect(byBits[3].trainedFor).toBeGreaterThan(float32 - 0.02);
}, 300_000);

test('ranges travel from agents into each version, and the static form needs no data any more', async () => {
  const [port, httpPort] = [await freePort(), await freePort()];
  const at = ['--coordinator', `grpc://127.0.0.1:${port}`];
  const addresses = ['--grpc', `127.0.0.1:${port}`, '--http', `127.0.0.1:${httpPort}`];
  const coordinator = commonweight('coordinator', '--data', join(folder, 'data'), ...addresses);
  programs.push(coordinator);
  await listening(port, coordinator);
  const run = async (...args: string[]): Promise<{ code: number; text: string }> => {
    const program = commonweight(...args);
    const [code] = (await once(program.child, 'exit')) as [number];
    return { code, text: program.output() };
  };
  const [file, config, exported, coded] = ['model.onnx', 'task.json', 'version.onnx', 'coded.onnx'].map((name) =>
    join(folder, name),
  );
  writeFileSync(file!, writeModel(smallCnn()));
  expect(await run('model', 'import', file!, '--name', 'digits', '--keep-ranges', ...at)).toMatchObject({ code: 0 });
  await run('model', 'export', 'digits', exported!, ...at);
  expect(await run('model', 'quantize', exported!, '--form', 'static-int8', '--out', coded!)).toEqual({
    code: 2,
    text: expect.stringContaining('the ranges that it keeps were not trained yet') as string,
  });
  writeFileSync(
    config!,
    JSON.stringify({ plan: { quantizationAware: { weights: 8, activations: 8 }, batchSize: 20 } }),
  );
  const flags = ['--config', config!, '--cohort-min', '2', '--rounds', '2', '--start'];
  expect(await run('task', 'create', 'train', '--model', 'digits', ...flags, ...at)).toMatchObject({ code: 0 });
  for (const part of [0, 1]) {
    const data = ['--data', `mnist?partition=${part}/20&by=iid`, '--dir', join(folder, `a${part}`)];
    programs.push(commonweight('agent', '--id', `a${part}`, ...data, ...at));
  }
  const admin = adminOf(port);
  await until('the last round', 120_000, async () => (await admin.task('train')).state === 'finished');
  admin.close();
  await run('model', 'export', 'digits', exported!, ...at);
  const ranges = rangesIn(readModel(readFileSync(exported!)))!;
  expect([...ranges.keys()]).toEqual(['input', 'conv1.relu', 'conv2.relu', 'hidden.relu']);
  // Pixels go from 0 to 1, and nothing after a Relu is below zero.
  expect(ranges.get('input')!.max).toBeCloseTo(1, 1);
  for (const { min, max } of ranges.values())
    expect({ min: Math.round(min * 100), isAbove: max > 0.1 }).toEqual({ min: 0, isAbove: true });
  const made = await run('model', 'quantize', exported!, '--form', 'static-int8', '--out', coded!, '--json');
  expect(made.code).toBe(0);
  const held = firstOf(await loadDataset('mnist?split=test'), 500);
  const [float, int8] = [
    await rightOn(readModel(readFileSync(exported!)), held),
    await rightOn(readModel(readFileSync(coded!)), held),
  ];
  expect(Math.abs(float - int8)).toBeLessThan(0.02);
}, 300_000);

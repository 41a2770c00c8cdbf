import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const FLAGS = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];
let folder: string;
let float: string;
let coded: string;

const commonweight = (...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
  new Promise((resolve) => {
    const main = join(import.meta.dirname, '..', 'main.ts');
    const child = execFile(process.execPath, [...FLAGS, main, ...args], (_, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });

const quantize = (file: string, form: string, ...args: string[]): ReturnType<typeof commonweight> =>
  commonweight('model', 'quantize', file, '--form', form, '--out', join(folder, 'out.onnx'), ...args);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'commonweight-quantize-'));
  float = join(folder, 'float.onnx');
  coded = join(folder, 'coded.onnx');
  const small = ['--filters', '4,8', '--dense', '16'];
  await commonweight('model', 'create', 'cnn', 'digits', ...small, '--file', float);
  await commonweight('model', 'quantize', float, '--form', 'int8-blocks', '--out', coded);
});

afterAll(() => rm(folder, { recursive: true }));

test('help lists the forms', async () => {
  const { code, stdout } = await commonweight('model', 'quantize', '--help');
  expect([
    code,
    stdout.replaceAll(/\s+/g, ' ').includes('dynamic-int8, static-int8, int8-blocks, int4-blocks, fp16'),
  ]).toEqual([0, true]);
});

test('a static form is made, measured and reported layer by layer', async () => {
  const data = ['--calibrate', 'mnist', '--examples', '64', '--report', '--json'];
  const { code, stdout } = await quantize(float, 'static-int8', ...data, '--exclude', 'out*');
  const records = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(code).toBe(0);
  expect(records.map(({ event }) => event)).toEqual(['progress', 'progress', 'quantized']);
  const { bytesAfter, noise, kept, maxError, sqnrDb, latencyMsAfter } = records[2] as Record<string, number> & {
    noise: { node: string }[];
  };
  expect(bytesAfter).toBe((await stat(join(folder, 'out.onnx'))).size);
  expect(noise.map(({ node }) => node).sort()).toEqual(['conv1', 'conv2', 'hidden']);
  expect(kept).toEqual([{ node: 'output', operator: 'Gemm', reason: 'is excluded' }]);
  expect([maxError! > 0, sqnrDb! > 25, latencyMsAfter! > 0]).toEqual([true, true, true]);
});

test('layers are left out until the accuracy holds', async () => {
  const { code, stdout } = await quantize(
    float,
    'int4-blocks',
    ...['--calibrate', 'mnist', '--examples', '64', '--accuracy-drop-max', '100', '--json'],
  );
  const last = JSON.parse(stdout.trim().split('\n').at(-1)!) as { kept: unknown[]; accuracyBefore: number };
  expect([code, last.kept, typeof last.accuracyBefore]).toEqual([0, [], 'number']);
});

test('people get a table, and the measurements name made-up numbers', async () => {
  const { code, stdout } = await quantize(float, 'fp16');
  expect(code).toBe(0);
  expect(stdout).toMatch(/size +\S+ kB +\S+ kB +1\.9\dx smaller/);
  expect(stdout).toContain('outputs on made-up numbers: largest error');
});

test.each([
  ['an unknown form', 'int2', [], 'Choose one of dynamic-int8'],
  ['a static form without data', 'static-int8', [], 'static-int8 needs data'],
  ['a bound without labels', 'fp16', ['--accuracy-drop-max', '1'], 'needs data with labels'],
  ['an unknown method', 'fp16', ['--method', 'best'], 'Choose one of minmax'],
])('%s is wrong usage', async (_, form, args, words) => {
  const { code, stderr } = await quantize(float, form, ...args);
  expect([code, stderr.includes(words)]).toEqual([2, true]);
});

test('what cannot be done is said in one line', async () => {
  const text = join(folder, 'text.onnx');
  await writeFile(text, 'no model');
  const wrong = join(folder, 'wrong.json');
  await writeFile(wrong, '[1, 2, 3]');
  const csv = join(folder, 'table.csv');
  await writeFile(csv, 'a,label\n1,0\n2,1\n');
  const cases = [
    [await quantize(text, 'fp16'), 'the bytes are not ONNX'],
    [await quantize(coded, 'dynamic-int8'), 'quantized already'],
    [await quantize(float, 'dynamic-int8', '--exclude', '*'), 'there is nothing to quantize'],
    [
      await quantize(float, 'static-int8', '--calibrate', wrong),
      "3 values do not fill input 'input' of shape [?, 1, 28, 28]",
    ],
    [await quantize(float, 'static-int8', '--calibrate', `csv:${csv}`), "input 'input' (float["],
    [await quantize(float, 'static-int8', '--calibrate', 'nonsense'), 'data "nonsense" is not understood'],
    [await quantize(join(folder, 'away.onnx'), 'fp16'), 'there is no such file'],
  ] as const;
  for (const [{ code, stderr }, words] of cases) {
    expect([code, stderr.trim().split('\n').length]).toEqual([1, 1]);
    expect(stderr).toContain(words);
  }
  expect((await readFile(coded)).length).toBeGreaterThan(0);
});

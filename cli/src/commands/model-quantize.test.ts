import { mlp, readModel, writeModel } from '@commonweight/core';
import { execFile } from 'node:child_process';
import { access, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
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

/**
 * Answers which of four columns is the largest, by three layers that hand them on. Beside them goes a fifth unit that is
 * never above zero, and weights of 1e4 on it in the layers that are named: in float32 they say nothing, and in int8
 * nothing else is left of their columns.
 */
async function largestColumn(...ruined: readonly string[]): Promise<string> {
  const model = mlp({ inputs: 4, hidden: [5, 5], outputs: 4, seed: 1 });
  for (const tensor of model.graph!.initializer) {
    const [rows, columns] = tensor.dims.map(Number) as [number, number?];
    const outlier = ruined.some((layer) => tensor.name === `${layer}.weight`) ? 1e4 : 0;
    const values = Float32Array.from({ length: rows * (columns ?? 1) }, (_, index) => {
      if (columns === undefined) return index === 4 ? -1 : 0;
      const [row, column] = [Math.floor(index / columns), index % columns];
      if (column === 4) return 0;
      return row === 4 ? outlier : row === column ? 1 : 0;
    });
    tensor.rawData = new Uint8Array(values.buffer);
  }
  const file = join(folder, `largest-${ruined.join('-')}.onnx`);
  await writeFile(file, writeModel(model));
  return file;
}

/** Rows of four columns whose largest is well above the others. */
async function columnsOf(name: string, first: number, rows: number): Promise<string> {
  const lines = Array.from({ length: rows }, (_, row) => {
    const label = (first + row) % 4;
    const values = [0, 1, 2, 3].map((column) => (column === label ? 0.8 : ((first + row) * (column + 3)) % 50) / 100);
    values[label] = 0.8;
    return [...values, label].join(',');
  });
  const path = join(folder, name);
  await writeFile(path, ['a,b,c,d,label', ...lines, ''].join('\n'));
  return `csv:${path}?label=label&input.input=a,b,c,d`;
}

const lastRecord = <T>(stdout: string): T => JSON.parse(stdout.trim().split('\n').at(-1)!) as T;

interface Report {
  measuredOn: string;
  isHeldOut: boolean;
  examples: number;
  accuracyBefore: number;
  accuracyAfter: number;
  calibration: { data: string; examples: number; accuracyAfter: number };
  leftOut: { node: string; sqnrDb: number }[];
  layers: { node: string }[];
}

test.each([['dynamic-int8'], ['static-int8']])(
  '%s: the layer that int8 ruins is found and left out by the calibration data, and the bound holds on others',
  async (form) => {
    const file = await largestColumn('hidden2');
    const [known, unseen] = [await columnsOf('known.csv', 0, 60), await columnsOf('unseen.csv', 1000, 200)];
    const data = ['--calibrate', known, '--test', unseen];
    const whole = lastRecord<Report>((await quantize(file, form, ...data, '--json')).stdout);
    expect([whole.accuracyBefore, whole.accuracyAfter]).toEqual([1, 0.25]);

    const { code, stdout } = await quantize(file, form, ...data, '--accuracy-drop-max', '1', '--json');
    const report = lastRecord<Report>(stdout);
    expect(code).toBe(0);
    expect(report.leftOut).toMatchObject([{ node: 'hidden2' }]);
    expect(report.leftOut[0]!.sqnrDb).toBeLessThan(1);
    expect(report.layers.map(({ node }) => node)).toEqual(['hidden1', 'output']);
    expect(report).toMatchObject({ measuredOn: unseen, isHeldOut: true, examples: 200, accuracyAfter: 1 });
    expect(report.calibration).toMatchObject({ data: known, examples: 60, accuracyAfter: 1 });

    const read = await quantize(file, form, ...data, '--accuracy-drop-max', '1');
    expect(read.stdout).toMatch(/left: hidden2 \(Gemm\) is too noisy for the accuracy bound: \S+ dB/);
    expect(read.stdout).toMatch(/accuracy, calibration data +100\.0 % +100\.0 % +\+0\.00 points \(60 of csv:.*known/);
    expect(read.stdout).toMatch(/accuracy, held-out data +100\.0 % +100\.0 % +\+0\.00 points \(200 of csv:.*unseen/);
  },
);

test('where no choice of layers keeps to the bound nothing is written, and it says what to do', async () => {
  const file = await largestColumn('hidden2', 'output');
  const out = join(folder, 'hopeless.onnx');
  const { code, stderr } = await commonweight(
    ...['model', 'quantize', file, '--form', 'dynamic-int8', '--out', out, '--exclude', 'hidden1'],
    ...['--calibrate', await columnsOf('known.csv', 0, 60), '--accuracy-drop-max', '1'],
  );
  expect(code).toBe(1);
  expect(stderr.trim().split('\n').at(-1)).toMatch(
    /dynamic-int8 cannot keep to 1 points on 'csv:.*known\.csv.*': even with '\S+' alone quantized, 75\.00 are lost; take another form \(int8-blocks or fp16\), a wider bound/,
  );
  await expect(access(out)).rejects.toThrow('ENOENT');
});

test('a bound that holds on the calibration data alone is said not to', async () => {
  const file = await largestColumn('hidden2');
  // One class: all answers of the ruined model are the first column.
  const path = join(folder, 'first-class.csv');
  await writeFile(path, 'a,b,c,d,label\n0.8,0.1,0.2,0.3,0\n0.8,0.3,0.2,0.1,0\n');
  const known = `csv:${path}?label=label&input.input=a,b,c,d&classes=0,1,2,3`;
  const unseen = await columnsOf('unseen.csv', 1000, 200);
  const data = ['--calibrate', known, '--test', unseen, '--accuracy-drop-max', '1'];
  const { code, stdout } = await quantize(file, 'dynamic-int8', ...data);
  expect(code).toBe(0);
  expect(stdout).toContain('note: the bound of 1 points holds on');
  expect(stdout).toContain('75.00 are lost');
});

test('the accuracy level and the size of blocks are those that were asked for', async () => {
  for (const level of [0, 1, 4]) {
    const out = join(folder, 'level.onnx');
    await commonweight(
      ...['model', 'quantize', float, '--form', 'int4-blocks', '--out', out],
      ...['--accuracy-level', `${level}`, '--block-size', '64'],
    );
    const nodes = readModel(await readFile(out)).graph!.node.filter(({ opType }) => opType === 'MatMulNBits');
    const numberIn = (name: string): number[] =>
      nodes.map(({ attribute }) => Number(attribute.find((each) => each.name === name)?.i));
    expect([numberIn('accuracy_level'), numberIn('block_size')]).toEqual([
      [level, level],
      [64, 64],
    ]);
  }
});

test('a percentile clips the input, so that its scale is smaller', async () => {
  const scaleOf = async (...args: string[]): Promise<number> => {
    await quantize(float, 'static-int8', '--calibrate', 'mnist', '--examples', '64', ...args);
    const { node, initializer } = readModel(await readFile(join(folder, 'out.onnx'))).graph!;
    const first = node.find(({ opType, input }) => opType === 'QuantizeLinear' && input[0] === 'input')!;
    const scale = initializer.find(({ name }) => name === first.input[1])!;
    return new DataView(Uint8Array.from(scale.rawData).buffer).getFloat32(0, true);
  };
  const whole = await scaleOf();
  const clipped = await scaleOf('--method', 'percentile', '--percentile', '80');
  expect(clipped).toBeLessThan(whole * 0.98);
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
  ['an accuracy level without blocks', 'dynamic-int8', ['--accuracy-level', '4'], 'means nothing in dynamic-int8'],
  ['an accuracy level that is none', 'int8-blocks', ['--accuracy-level', '5'], 'a whole number from 0 to 4'],
  ['bits of weights in blocks', 'int8-blocks', ['--weight-bits', '4'], 'take dynamic-int8 or static-int8'],
  ['a method without ranges', 'fp16', ['--method', 'mse'], 'means nothing in fp16'],
  ['a percentile of another method', 'static-int8', ['--percentile', '99'], 'is of --method percentile'],
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
    [
      await quantize(float, 'dynamic-int8', '--calibrate', 'mnist', '--test', 'mnist', '--test-examples', '99'),
      "all 99 examples of 'mnist' are also in 'mnist': give --test data that --calibrate does not have",
    ],
  ] as const;
  for (const [{ code, stderr }, words] of cases) {
    expect([code, stderr.trim().split('\n').length]).toEqual([1, 1]);
    expect(stderr).toContain(words);
  }
  expect((await readFile(coded)).length).toBeGreaterThan(0);
});

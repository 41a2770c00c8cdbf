import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { costOf, readModel, writeModel } from '@commonweight/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeModel, makeNode, makeValue } from '../../../core/src/onnx/nodes.ts';
import { floatTensor } from '../../../core/src/onnx/tensor-data.ts';

const FLAGS = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];
let folder: string;
let whole: string;

const commonweight = (...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
  new Promise((resolve) => {
    const main = join(import.meta.dirname, '..', 'main.ts');
    const child = execFile(process.execPath, [...FLAGS, main, ...args], (_, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });

const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'commonweight-prune-'));
  whole = at('whole.onnx');
  await commonweight('model', 'create', 'cnn', 'digits', '--filters', '4,8', '--dense', '16', '--file', whole);
});

afterAll(() => rm(folder, { recursive: true }));

test('channels are taken away, and the smaller file is measured against the one before', async () => {
  const args = ['--structured', 'channels', '--sparsity', '0.5', '--data', 'mnist?split=test', '--examples', '100'];
  const { code, stdout } = await commonweight('model', 'prune', whole, ...args, '--out', at('half.onnx'), '--json');
  expect(code).toBe(0);
  const record = JSON.parse(stdout) as Record<string, number> & { groups: { before: number; after: number }[] };
  expect(record.groups.map(({ before, after }) => [before, after])).toEqual([
    [4, 2],
    [8, 4],
    [16, 8],
  ]);
  const { parameters } = costOf(readModel(await readFile(at('half.onnx'))));
  expect(record['parametersAfter']).toBe(parameters);
  expect(record['parametersBefore']! / parameters).toBeGreaterThan(3);
  expect(record['accuracyBefore']).toBeGreaterThanOrEqual(0);
  expect(record['latencyMsAfter']).toBeGreaterThan(0);
});

test('single weights become zero, and the report says what that is good for', async () => {
  const { code, stdout } = await commonweight('model', 'prune', whole, '--sparsity', '0.9', '--out', at('zeros.onnx'));
  expect({ code, stdout }).toEqual({
    code: 0,
    stdout: expect.stringContaining('90.0 % of the weights of each layer away') as string,
  });
  expect(stdout).toContain('zeros take as much room and time as other numbers here');
  const { parameters, zeros } = costOf(readModel(await readFile(at('zeros.onnx'))));
  expect(zeros / parameters).toBeGreaterThan(0.85);
});

test.each<[string, string[], string]>([
  ['no place to write', ['--sparsity', '0.5'], 'say where it is to go: --out FILE.onnx, --import NAME, or both'],
  ['a share of everything', ['--sparsity', '1', '--out', 'x.onnx'], 'Give a number above 0 and below 1.'],
  [
    'a scope for channels',
    ['--sparsity', '0.5', '--structured', 'channels', '--scope', 'global', '--out', 'x.onnx'],
    '--scope is for single weights; channels go by layer',
  ],
])('%s is wrong usage', async (_, args, words) => {
  const { code, stderr } = await commonweight('model', 'prune', whole, ...args);
  expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(words) as string });
});

test('a model whose channels cannot be followed is refused with the name of the node', async () => {
  const node = [
    makeNode('MatMul', ['x', 'w'], ['h'], {}, 'first'),
    makeNode('Softmax', ['h'], ['s'], {}, 'shares'),
    makeNode('MatMul', ['s', 'v'], ['y'], {}, 'last'),
  ];
  const floats = (name: string, shape: [number, number]) =>
    floatTensor(name, shape, new Float32Array(shape[0] * shape[1]));
  const model = makeModel({
    name: 'stuck',
    node,
    initializer: [floats('w', [3, 4]), floats('v', [4, 2])],
    input: [makeValue('x', ['batch', 3])],
    output: [makeValue('y', ['batch', 2])],
  });
  await writeFile(at('stuck.onnx'), writeModel(model));
  const args = ['--structured', 'channels', '--sparsity', '0.5', '--out', at('x.onnx')];
  const { code, stderr } = await commonweight('model', 'prune', at('stuck.onnx'), ...args);
  expect({ code, stderr }).toEqual({
    code: 2,
    stderr: expect.stringContaining(
      "'first' (MatMul) keeps its channels: 'shares' (Softmax) shares out over the channels",
    ) as string,
  });
});

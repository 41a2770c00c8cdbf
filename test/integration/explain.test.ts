/** Explanations as people and programs ask for them: the command line and the serving endpoint, with a real coordinator. */
import { once } from 'node:events';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { logistic, mlp, writeModel } from '@commonweight/core';
import { startServing, type Serving } from '@commonweight/edge-agent';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { floatTensor } from '../../core/src/onnx/tensor-data.ts';
import { makeModel, makeNode, makeValue } from '../../core/src/onnx/nodes.ts';
import { trainedOnDigits } from '../support/digit-models.ts';
import { commonweight, temporaryFolder, until } from '../support/processes.ts';

const folder = temporaryFolder('explain');
const table = join(folder, 'flowers.csv');
let coordinator: RunningCoordinator;
let serving: Serving;

/** Answers with whole numbers only. */
const counting = makeModel({
  name: 'counting',
  node: [makeNode('Floor', ['input'], ['whole'], {}, 'count'), makeNode('MatMul', ['whole', 'w'], ['logits'])],
  initializer: [floatTensor('w', [4, 2], new Float32Array(8).fill(1))],
  input: [makeValue('input', ['batch', 4])],
  output: [makeValue('logits', ['batch', 2])],
});

beforeAll(async () => {
  coordinator = await startCoordinator({ dataDir: join(folder, 'data'), grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  const digits = await trainedOnDigits(mlp({ inputs: 784, hidden: [64], outputs: 10, seed: 1 }), 200);
  await coordinator.service.importModel('digits', writeModel(digits));
  await coordinator.service.importModel('flowers', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
  // Slow enough that the explanations of 12 requests cannot be made one after the other while the requests come.
  const slow = mlp({ inputs: 4, hidden: [1500, 1500], outputs: 3, seed: 1 });
  await coordinator.service.importModel('slow', writeModel(slow));
  await coordinator.service.importModel('counting', writeModel(counting));
  await writeFile(table, 'a,b,"c, in cm",label,d\n5.1,3.5,1.4,0,0.2\n6.3,2.5,5,2,1.9\n5.5,2.3,4,1,1.3\n');
  serving = await startServing({
    coordinator: `grpc://127.0.0.1:${coordinator.grpcPort}`,
    models: ['flowers', 'counting', 'slow'],
    http: '127.0.0.1:0',
  });
  const ready = async (): Promise<boolean> => (await fetch(`${url()}/v2/health/ready`)).ok;
  await until('all models', 60_000, ready);
});
afterAll(async () => {
  await serving.close();
  await coordinator.close();
  await rm(folder, { recursive: true });
});

const url = (): string => `http://127.0.0.1:${serving.httpPort}`;

async function run(...args: string[]): Promise<{ code: number; text: string }> {
  const program = commonweight(...args, '--coordinator', `grpc://127.0.0.1:${coordinator.grpcPort}`);
  const [code] = (await once(program.child, 'exit')) as [number];
  return { code, text: program.output() };
}

interface Record {
  event: string;
  explained: { index: number; value: number; baselineValue: number; gap: number }[];
  attributions: { input: { dims: number[]; data: number[] } };
  columns: { column: number; name: string; drop: number }[];
}

const record = (text: string, event: string): Record =>
  text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record)
    .find((one) => one.event === event)!;

test('a digit is explained on the command line: complete, and by the pixels of its ink', async () => {
  const args = ['explain', 'digits', '--data', 'mnist?split=test', '--index', '3'];
  const { code, text } = await run(...args, '--json');
  expect(code).toBe(0);
  const { explained, attributions } = record(text, 'explanation');
  const [{ value, baselineValue, gap }] = [explained[0]!];
  expect(attributions.input.dims).toEqual([1, 784]);
  const sum = attributions.input.data.reduce((all, share) => all + share, 0);
  expect(sum).toBeCloseTo(value - baselineValue + gap, 3);
  expect(Math.abs(gap)).toBeLessThan(0.05 * Math.abs(value - baselineValue));
  // A pixel that is as black as the baseline adds nothing.
  expect(attributions.input.data[0]).toBe(0);
  const told = await run(...args, '--baseline', 'mean', '--top', '3');
  expect(told.text).toMatch(/for the mean of the data; by integrated-gradients, 32 steps/);
  expect(told.text).toContain('# and + raise it, = and - lower it');
});

test('rows of a table are explained by their columns, one by one and all together', async () => {
  const one = await run('explain', 'flowers', '--data', `csv:${table}`, '--method', 'gradient-x-input');
  expect(one.text).toContain('c, in cm');
  const predicted = await run('predict', 'flowers', '--data', `csv:${table}`, '--explain', '--json');
  expect(predicted.text).toContain('"explanation":{"method":"integrated-gradients"');
  const all = await run('explain', 'flowers', '--data', `csv:${table}`, '--method', 'permutation', '--json');
  const names = record(all.text, 'importance').columns.map(({ name }) => name);
  expect(names.toSorted()).toEqual(['a', 'b', 'c, in cm', 'd']);
});

test('what is asked wrongly on the command line exits with 2, and what has no gradient names the node', async () => {
  const wrong = async (words: string, ...args: string[]): Promise<void> => {
    const { code, text } = await run('explain', 'flowers', ...args);
    expect({ code, text }).toEqual({ code: 2, text: expect.stringContaining(words) as string });
  };
  await wrong('give either --input FILE, --image FILE or --data SPEC');
  await wrong('permutation needs a table: add --data SPEC', '--method', 'permutation');
  await wrong('--baseline mean needs the data', '--input', 'x.json', '--baseline', 'mean');
  await wrong("output 'logits' has the values 0 to 2, and no 3", '--data', `csv:${table}`, '--target', '3');
  const { code, text } = await run('explain', 'counting', '--data', `csv:${table}`);
  expect({ code, text }).toEqual({
    code: 1,
    text: expect.stringContaining("operator Floor of node 'count' has no gradient") as string,
  });
});

interface Answer {
  error?: string;
  model_version?: string;
  explained?: { index: number }[];
  attributions?: { name: string; shape: number[]; data: number[] }[];
}

async function ask(model: string, body: unknown, method = 'POST'): Promise<{ code: number; body: Answer }> {
  const init = method === 'GET' ? {} : { method, body: JSON.stringify(body) };
  const response = await fetch(`${url()}/api/models/${model}/explain`, init);
  return { code: response.status, body: (await response.json()) as Answer };
}

const row = { name: 'input', datatype: 'FP32', shape: [1, 4], data: [5.1, 3.5, 1.4, 0.2] };

test('the endpoint explains as well, each row by its largest answer or all by one', async () => {
  const two = { ...row, shape: [2, 4], data: [...row.data, ...row.data.map((value) => -value)] };
  const { code, body } = await ask('flowers', { inputs: [two], steps: 4, baseline: [{ ...row, data: [1, 1, 1, 1] }] });
  expect({ code, version: body.model_version, rows: body.explained!.length }).toEqual({
    code: 200,
    version: '1',
    rows: 2,
  });
  expect(body.attributions).toMatchObject([{ name: 'input', shape: [2, 4] }]);
  const named = await ask('flowers', { inputs: [two], index: 2, method: 'gradient-x-input', output: 'logits' });
  expect(named.body.explained!.map(({ index }) => index)).toEqual([2, 2]);
  const text = await (await fetch(`${url()}/metrics`)).text();
  expect(text).toContain('commonweight_serving_explanations_total{model="flowers"} 2');
});

test.each<[string, string, unknown, number, string]>([
  ['an unknown model', 'nope', { inputs: [row] }, 404, "model 'nope' is not served here"],
  ['an unknown key', 'flowers', { inputs: [row], step: 3 }, 400, 'an explanation has no "step"'],
  ['too many steps', 'flowers', { inputs: [row], steps: 257 }, 400, '"steps" must be a whole number from 1 to 256'],
  ['an unknown method', 'flowers', { inputs: [row], method: 'shap' }, 400, '"method" must be one of'],
  ['an unknown place', 'flowers', { inputs: [row], index: 3 }, 400, 'has the values 0 to 2, and no 3'],
  [
    'an unknown output',
    'flowers',
    { inputs: [row], output: 'y' },
    422,
    "no output 'y' of float numbers; it has 'logits'",
  ],
  [
    'a wrong shape',
    'flowers',
    { inputs: [{ ...row, shape: [2, 2] }] },
    400,
    "input 'input' is FP32[-1, 4], not [2, 2]",
  ],
  ['a baseline of words', 'flowers', { inputs: [row], baseline: 'zero' }, 400, '"baseline" is a number'],
  [
    'many rows',
    'flowers',
    { inputs: [{ ...row, shape: [17, 4], data: new Array(68).fill(0) }] },
    400,
    '17 examples were sent, at most 16 are explained',
  ],
  ['a body without end', 'flowers', { inputs: [], x: 'x'.repeat(2 ** 23) }, 413, 'send fewer rows at a time'],
  ['a model without gradients', 'counting', { inputs: [row] }, 422, "operator Floor of node 'count' has no gradient"],
])('%s is refused with the cause and the mend', async (_, model, body, code, words) => {
  const answer = await ask(model, body);
  expect(answer).toEqual({ code, body: { error: expect.stringContaining(words) as string } });
});

test('only a few explanations run or wait at once, and predictions go on meanwhile', async () => {
  const rows = { ...row, shape: [16, 4], data: Array.from({ length: 64 }, (_, at) => at % 5) };
  const asked = await Promise.all(Array.from({ length: 12 }, () => ask('slow', { inputs: [rows], steps: 64 })));
  expect(new Set(asked.map(({ code }) => code))).toEqual(new Set([200, 429]));
  expect(asked.filter(({ code }) => code === 200).length).toBeGreaterThanOrEqual(4);
  expect((await ask('flowers', undefined, 'GET')).code).toBe(405);
  const predicted = await fetch(`${url()}/v2/models/flowers/infer`, {
    method: 'POST',
    body: JSON.stringify({ inputs: [row] }),
  });
  expect(predicted.status).toBe(200);
});

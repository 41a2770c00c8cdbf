/** What the columns of a table are worth, as programs ask a serving endpoint for it, with a real coordinator. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { connect, permutationImportance } from '@commonweight/client-sdk';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { mlp, seeded, writeModel, type ModelProto } from '@commonweight/core';
import { startServing, type Serving } from '@commonweight/edge-agent';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeModel, makeNode, makeValue } from '../../core/src/onnx/nodes.ts';
import { floatTensor } from '../../core/src/onnx/tensor-data.ts';
import { temporaryFolder, until } from '../support/processes.ts';
import { pair } from '../support/two-inputs.ts';

const folder = temporaryFolder('importance');
const NAMES = ['second', 'single', 'price', 'pair', 'slow'];
let coordinator: RunningCoordinator;
let serving: Serving;

/** One linear layer. */
const linear = (rows: number | string, shape: [number, number], weights: readonly number[]): ModelProto =>
  makeModel({
    name: 'linear',
    node: [makeNode('MatMul', ['input', 'w'], ['y'])],
    initializer: [floatTensor('w', shape, new Float32Array(weights))],
    input: [makeValue('input', [rows, shape[0]])],
    output: [makeValue('y', [rows, shape[1]])],
  });

beforeAll(async () => {
  coordinator = await startCoordinator({ dataDir: join(folder, 'data'), grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  const add = (name: string, model: ModelProto): Promise<unknown> =>
    coordinator.service.importModel(name, writeModel(model));
  // Class 1 where the second of three numbers is positive.
  await add('second', linear('batch', [3, 2], [0, 0, 0, 1, 0, 0]));
  await add('single', linear(1, [3, 2], [0, 0, 0, 1, 0, 0]));
  // Twice the first of two numbers.
  await add('price', linear('batch', [2, 1], [2, 0]));
  await add('pair', pair);
  await add('slow', mlp({ inputs: 4, hidden: [1500, 1500], outputs: 3, seed: 1 }));
  serving = await endpoint({});
});
afterAll(async () => {
  await serving.close();
  await coordinator.close();
  await rm(folder, { recursive: true });
});

const grpcUrl = (): string => `grpc://127.0.0.1:${coordinator.grpcPort}`;

async function endpoint(limits: { requestMs?: number }, models = NAMES): Promise<Serving> {
  const opened = await startServing({ coordinator: grpcUrl(), models, http: '127.0.0.1:0', limits });
  const ready = async (): Promise<boolean> => (await fetch(`http://127.0.0.1:${opened.httpPort}/v2/health/ready`)).ok;
  await until('all models', 60_000, ready);
  return opened;
}

const place = (model: string, of = serving): string => `http://127.0.0.1:${of.httpPort}/api/models/${model}/importance`;

interface Answer {
  error?: string;
  value?: number;
  columns?: { column: number; drop: number; spread: number }[];
}

async function ask(model: string, body: unknown, of = serving): Promise<{ code: number; body: Answer }> {
  const init = { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) };
  const response = await fetch(place(model, of), init);
  return { code: response.status, body: (await response.json()) as Answer };
}

const metrics = async (): Promise<string> => await (await fetch(`http://127.0.0.1:${serving.httpPort}/metrics`)).text();

const random = seeded(7);
const numbers = Float32Array.from({ length: 120 * 3 }, () => random.normal());
const classes = Array.from({ length: 120 }, (_, row) => Number(numbers[row * 3 + 1]! > 0));
const table = { name: 'input', datatype: 'FP32', shape: [120, 3], data: [...numbers] };

test('the columns of a table are worth what the SDK says, the worthiest first', async () => {
  const { code, body } = await ask('second', { inputs: [table], labels: classes, repeats: 3 });
  const client = await connect(grpcUrl());
  const rows = { inputs: numbers, labels: classes };
  const told = await permutationImportance(await client.model('second'), rows, { repeats: 3 });
  await client.close();
  expect({ code, body }).toEqual({
    code: 200,
    body: {
      model_name: 'second',
      model_version: '1',
      method: 'permutation',
      score: 'accuracy',
      value: 1,
      rows: 120,
      columns: told.columns,
    },
  });
  expect(body.columns!.map(({ column }) => column)[0]).toBe(1);
  expect(body.columns![0]!.drop).toBeGreaterThan(0.3);
  expect(body.columns!.slice(1).map(({ drop, spread }) => [drop, spread])).toEqual([
    [0, 0],
    [0, 0],
  ]);
  expect(await metrics()).toContain('commonweight_serving_explanations_total{model="second"} 1\n');
});

test('a model of single rows is asked row by row, and says the same', async () => {
  const request = { inputs: [table], labels: classes };
  const [open, single] = [await ask('second', request), await ask('single', request)];
  expect(single.code).toBe(200);
  expect(single.body).toEqual({ ...open.body, model_name: 'single' });
});

test('a model that answers with a number is scored by its error', async () => {
  const rows = { ...table, shape: [180, 2] };
  const labels = Array.from({ length: 180 }, (_, row) => 2 * table.data[row * 2]! + 1);
  const { code, body } = await ask('price', { inputs: [rows], labels, score: 'mse' });
  expect({ code, score: body }).toMatchObject({ code: 200, score: { score: 'mse', rows: 180 } });
  // It is 1 too small for every row.
  expect(body.value).toBeCloseTo(-1, 4);
  expect(body.columns!.map(({ column }) => column)).toEqual([0, 1]);
  expect(body.columns![0]!.drop).toBeGreaterThan(1);
  expect(body.columns![1]).toEqual({ column: 1, drop: 0, spread: 0 });
});

const good = { inputs: [table], labels: classes };
const huge = { ...table, shape: [2, 3], data: [3e38, 3e38, 3e38, 3e38, 3e38, 3e38] };

test.each<[string, string, unknown, number, string]>([
  ['an unknown model', 'nope', good, 404, "model 'nope' is not served here"],
  ['an unknown key', 'second', { ...good, columns: [1] }, 400, 'an importance has no "columns": there are inputs'],
  ['a label too few', 'second', { ...good, labels: classes.slice(1) }, 400, 'there are 119 labels for 120 rows'],
  ['no label', 'second', { inputs: [table] }, 400, '"labels" must be an array of finite numbers'],
  ['an unknown score', 'second', { ...good, score: 'auc' }, 400, '"score" must be one of accuracy, mse'],
  ['a score of another kind of model', 'second', { ...good, score: 'mse' }, 400, 'the model answers with 2'],
  [
    'a class that is none',
    'second',
    { ...good, labels: classes.with(9, 2) },
    400,
    'label 9 is 2, and classes are whole',
  ],
  ['half a class', 'second', { ...good, labels: classes.with(4, 0.5) }, 400, 'numbers from 0 to 1, in the order of'],
  ['too many turns', 'second', { ...good, repeats: 21 }, 400, '"repeats" must be a whole number from 1 to 20'],
  [
    'too many predictions',
    'slow',
    {
      inputs: [{ ...table, shape: [20_000, 4], data: new Array(80_000).fill(0) }],
      labels: new Array(20_000).fill(0),
      repeats: 20,
    },
    400,
    '1620000 rows would have to be predicted, at most 1000000 are: give fewer rows or fewer "repeats"',
  ],
  ['one row', 'second', { inputs: [{ ...table, shape: [1, 3], data: [1, 2, 3] }], labels: [0] }, 400, 'give 2 rows'],
  [
    'another width',
    'second',
    { inputs: [{ ...table, shape: [180, 2] }], labels: [] },
    400,
    'is FP32[-1, 3], not [180, 2]',
  ],
  ['NaN', 'second', '{"inputs":[{"name":"input","data":[NaN]}],"labels":[0]}', 400, 'no Infinity: leave them out'],
  [
    'a model of two inputs',
    'pair',
    good,
    400,
    "the model has 'a' FP32[-1, 2], 'b' FP32[-1, 2]: explain single examples",
  ],
  [
    'numbers that overflow',
    'price',
    { inputs: [{ ...huge, shape: [3, 2] }], labels: [0, 1, 2], score: 'mse' },
    422,
    'the mse is -Infinity, or becomes infinite',
  ],
])('%s is refused with the cause and the mend', async (_, model, body, code, words) => {
  expect(await ask(model, body)).toEqual({ code, body: { error: expect.stringContaining(words) as string } });
});

test('only POST asks, and the refusal says so', async () => {
  const response = await fetch(place('second'));
  expect({ code: response.status, allow: response.headers.get('allow') }).toEqual({ code: 405, allow: 'POST' });
  const other = await fetch(place('second').replace('importance', 'importances'), { method: 'POST', body: '{}' });
  expect(other.status).toBe(404);
  expect(((await other.json()) as Answer).error).toContain('/api/models/NAME/explain /api/models/NAME/importance');
});

/** Minutes of work for two cores. */
const long = {
  inputs: [{ ...table, shape: [12_000, 4], data: Array.from({ length: 48_000 }, (_, at) => at % 7) }],
  labels: new Array(12_000).fill(0),
  repeats: 20,
};

test('four are worked for at once, and who goes away is not worked for any longer', async () => {
  const leaving = new AbortController();
  const init = { method: 'POST', body: JSON.stringify(long), signal: leaving.signal };
  const asked = Array.from({ length: 5 }, () => fetch(place('slow'), init));
  // The first answer is the refusal of the one that found all places taken.
  const refused = await Promise.any(asked);
  const { error } = (await refused.json()) as Answer;
  expect({ code: refused.status, error }).toEqual({
    code: 429,
    error: "4 explanations of 'slow' are under way: ask later",
  });
  const inputs = [{ ...table, shape: [1, 4], data: [1, 2, 3, 4] }];
  const predicted = await fetch(`http://127.0.0.1:${serving.httpPort}/v2/models/slow/infer`, {
    method: 'POST',
    body: JSON.stringify({ inputs }),
  });
  expect(predicted.status).toBe(200);
  leaving.abort();
  const left = await Promise.allSettled(asked);
  expect(left.filter(({ status }) => status === 'rejected')).toHaveLength(4);
  const isOver = async (): Promise<boolean> =>
    (await metrics()).includes('errors_total{model="slow",reason="cancelled"} 4\n');
  await until('the end of the work', 60_000, isOver);
  const small = { ...table, shape: [2, 4], data: [1, 2, 3, 4, 5, 6, 7, 8] };
  expect((await ask('slow', { inputs: [small], labels: [0, 1] })).code).toBe(200);
});

test('what takes too long is told before the connection is cut', async () => {
  const hasty = await endpoint({ requestMs: 8_000 }, ['slow']);
  expect(await ask('slow', long, hasty)).toEqual({
    code: 413,
    body: { error: expect.stringMatching(/shuffled in the time that a request has: give fewer rows/) as string },
  });
  await hasty.close();
});

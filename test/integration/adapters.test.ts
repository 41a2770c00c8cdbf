import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { encodings, gridFor, parametersOf, readModel, seeded, writeModel, type ModelProto } from '@commonweight/core';
import type { AgentEvent } from '@commonweight/edge-agent';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { graphOf } from '../../core/src/onnx/file.ts';
import { makeNode, makeValue } from '../../core/src/onnx/nodes.ts';
import { floatTensor } from '../../core/src/onnx/tensor-data.ts';
import { adminOf } from '../support/admin.ts';
import { freePort } from '../support/free-port.ts';
import { commonweight, listening, printed, temporaryFolder, until, type Program } from '../support/processes.ts';
import { transformer } from '../support/transformer.ts';

const CLASSES = 10;
const ROUNDS = 4;
const SIZE = { tokens: 28, tokenSize: 28, width: 64 };

const folder = temporaryFolder('adapters');
const file = join(folder, 'encoder.onnx');
const full = classifier(CLASSES);
let [port, httpPort] = [0, 0];
const programs: Program[] = [];

/** An encoder over the rows of an image, and a dense layer over all of its features. */
function classifier(classes: number): ModelProto {
  const body = transformer({ ...SIZE, heads: 4, layers: 2, seed: 1 });
  const graph = graphOf(body);
  const [inputs, random] = [SIZE.tokens * SIZE.width, seeded('head')];
  const weight = Float32Array.from({ length: inputs * classes }, () => random.normal() / Math.sqrt(inputs));
  return {
    ...body,
    graph: {
      ...graph,
      node: [...graph.node, makeNode('Gemm', ['features', 'head.weight', 'head.bias'], ['logits'])],
      initializer: [
        ...graph.initializer,
        floatTensor('head.weight', [inputs, classes], weight),
        floatTensor('head.bias', [classes], new Float32Array(classes)),
      ],
      output: [makeValue('logits', ['batch', classes])],
    },
  };
}

beforeAll(async () => {
  writeFileSync(file, writeModel(full));
  [port, httpPort] = [await freePort(), await freePort()];
  const addresses = ['--grpc', `127.0.0.1:${port}`, '--http', `127.0.0.1:${httpPort}`];
  const coordinator = commonweight('coordinator', '--data', join(folder, 'data'), ...addresses);
  programs.push(coordinator);
  await listening(port, coordinator);
});

afterAll(async () => {
  for (const program of programs.reverse()) await program.end('SIGTERM');
  await rm(folder, { recursive: true });
});

async function succeed(...args: string[]): Promise<string> {
  const program = commonweight(...args, '--coordinator', `grpc://127.0.0.1:${port}`);
  const [code] = (await once(program.child, 'exit')) as [number];
  if (code !== 0) throw new Error(program.output());
  return program.output();
}

async function refused(...args: string[]): Promise<{ code: number; said: string }> {
  const program = commonweight('model', 'import', ...args, '--coordinator', `grpc://127.0.0.1:${port}`);
  const [code] = (await once(program.child, 'exit')) as [number];
  return { code, said: program.output().trim() };
}

async function outputsOf(path: string, rows: number): Promise<Float32Array> {
  const session = await InferenceSession.create(readFileSync(path));
  const random = seeded('examples');
  const data = Float32Array.from({ length: rows * 784 }, () => random.uniform());
  const { logits } = await session.run({ input: new Tensor('float32', data, [rows, SIZE.tokens, SIZE.tokenSize]) });
  const answers = (logits!.data as Float32Array).slice();
  await session.release();
  return answers;
}

test('a transformer with adapters is trained by two agents, ships less than a fiftieth, and is an ordinary model when merged', async () => {
  const said = await succeed(
    'model',
    'import',
    file,
    ...['--name', 'adapted', '--lora', '*.q.*', '--lora', '*.v.*', '--lora-rank', '4'],
  );
  // Two layers, two weights each: 64 to 4 and 4 to 64.
  expect(said).toMatch(/2,048 numbers are trained and travel in updates \(1\.\d % of what the file would train\)/);
  const admin = adminOf(port);
  await admin.createTask('train', {
    model: 'adapted',
    plan: {
      loss: 'cross-entropy',
      optimizer: { name: 'adam', learningRate: 0.01 },
      epochs: 1,
      batchSize: 20,
      evaluation: { metrics: ['accuracy', 'f1'], holdOut: 0.2 },
    },
    cohort: { min: 2, max: 2 },
    rounds: ROUNDS,
  });
  await admin.startTask('train');
  const agents: Program[] = [];
  for (const part of [0, 1]) {
    const data = `mnist?partition=${part}/40&seed=1`;
    const at = ['--coordinator', `grpc://127.0.0.1:${port}`, '--dir', join(folder, `a${part}`)];
    const agent = commonweight('agent', '--json', '--id', `a${part}`, '--data', data, ...at);
    programs.push(agent);
    agents.push(agent);
  }
  await until('the last round', 60_000, async () => (await admin.task('train')).state === 'finished');
  // What agents measured of the version before the last.
  const { metrics } = await admin.task('train');
  expect(metrics).toEqual({
    loss: expect.any(Number) as number,
    trainMs: expect.any(Number) as number,
    base_accuracy: expect.any(Number) as number,
    base_f1: expect.any(Number) as number,
  });
  expect(metrics['base_accuracy']).toBeGreaterThan(0);
  admin.close();
  const events = (): AgentEvent[] => agents.flatMap((agent) => printed<AgentEvent>(agent));
  const uploads = () => events().filter((event) => event.type === 'uploaded');
  // What an agent prints comes some time after it was so.
  await expect.poll(() => uploads().length).toBe(2 * ROUNDS);
  const trained = printed<AgentEvent>(agents[0]!).flatMap((event) => (event.type === 'trained' ? [event.loss] : []));
  expect(trained.at(-1)).toBeLessThan(trained[0]! * 0.9);
  const numbers = parametersOf(full).reduce((sum, { length }) => sum + length, 0);
  const grid = gridFor({ valueMaxExponent: 3, weightMax: 100_000, cohortMax: 2 });
  const whole = encodings.mxint8.encode(new Float32Array(numbers), grid, seeded(1)).length;
  for (const { bytes } of uploads()) expect(bytes).toBeLessThan(0.02 * whole);

  const [plain, merged, base] = ['plain', 'merged', 'base'].map((name) => join(folder, `${name}.onnx`)) as [
    string,
    string,
    string,
  ];
  await succeed('model', 'export', 'adapted', plain);
  await succeed('model', 'export', 'adapted', merged, '--merge');
  await succeed('model', 'export', 'adapted', base, '--version', '1');
  const [adapted, ordinary, before, imported] = await Promise.all(
    [plain, merged, base, file].map((path) => outputsOf(path, 16)),
  );
  const largest = Math.max(...adapted!.map(Math.abs));
  adapted!.forEach((value, i) => expect(Math.abs(ordinary![i]! - value)).toBeLessThan(1e-6 * largest + 1e-6));
  // The adapters begin as no change at all, and are one now.
  expect(before).toEqual(imported);
  expect(adapted!.some((value, i) => Math.abs(value - before![i]!) > 0.01)).toBe(true);
  const shape = (of: ModelProto) => graphOf(of).node.map(({ opType }) => opType);
  expect(shape(readModel(readFileSync(merged)))).toEqual(shape(full));
});

test('a new head is trained alone, or with what is named', async () => {
  expect(await succeed('model', 'import', file, '--name', 'three', '--replace-head', '3')).toMatch(
    /% of what the file/,
  );
  const path = join(folder, 'three.onnx');
  await succeed('model', 'export', 'three', path);
  expect(await outputsOf(path, 2)).toHaveLength(6);
  // 1792 to 3 and 3; with the gains of the norms, five of 64.
  const alone = ['--replace-head', '3', '--train', 'head.*'];
  expect(await succeed('model', 'import', file, '--name', 'alone', ...alone)).toContain('5,379 numbers are trained');
  const gains = ['--replace-head', '3', '--train', '*.gain'];
  expect(await succeed('model', 'import', file, '--name', 'gains', ...gains)).toContain('5,699 numbers are trained');
});

test.each([
  [['--lora', 'nothing*'], 'no layer fits nothing*; the model has 14 layers, such as embed.weight'],
  [['--train', 'nothing*'], 'no parameter fits nothing*: there are embed.weight'],
  [['--lora-rank', '4'], '--lora-rank and --lora-alpha go with --lora'],
  [['--lora', '*.q.*', '--lora-rank', '0'], "argument '0' is invalid"],
])('model import %j is refused in a line', async (flags, message) => {
  const { code, said } = await refused(file, '--name', 'refused', ...flags);
  expect(code).toBe(2);
  expect(said).toContain(message);
  expect(said).not.toContain(' at ');
});

test('a model without adapters has nothing to merge', async () => {
  await expect(succeed('model', 'export', 'three', join(folder, 'no.onnx'), '--merge')).rejects.toThrow(
    '--merge: the model has no adapters',
  );
});

/** A teacher in a federation: two agents with few labels, the real coordinator, and the same training without a teacher beside it. */
import { once } from 'node:events';
import { rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { evaluate, Evaluator, loadDataset, openEngine, type AgentEvent } from '@commonweight/edge-agent';
import { cnn, mlp, readModel, splitModel, writeModel, type ModelProto } from '@commonweight/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { adminOf } from '../support/admin.ts';
import { trainedOnDigits } from '../support/digit-models.ts';
import { freePort } from '../support/free-port.ts';
import { commonweight, listening, printed, temporaryFolder, until, type Program } from '../support/processes.ts';
import { readFileSync } from 'node:fs';

const ROUNDS = 8;
const folder = temporaryFolder('distillation');
const programs: Program[] = [];
const agents: Program[] = [];
let [port, httpPort] = [0, 0];

const at = (): string => `grpc://127.0.0.1:${port}`;
const small = (): ModelProto => mlp({ inputs: 784, hidden: [32], outputs: 10, seed: 3 });

beforeAll(async () => {
  [port, httpPort] = [await freePort(), await freePort()];
  const addresses = ['--grpc', `127.0.0.1:${port}`, '--http', `127.0.0.1:${httpPort}`];
  const coordinator = commonweight('coordinator', '--data', join(folder, 'data'), ...addresses, '--keep-versions', '2');
  programs.push(coordinator);
  await listening(port, coordinator);
  const admin = adminOf(port);
  const big = cnn({ height: 28, width: 28, channels: 1, filters: [8, 16], kernel: 3, dense: 64, outputs: 10, seed: 1 });
  await admin.importModel('teacher', writeModel(await trainedOnDigits(big, 250)));
  for (const name of ['plain', 'taught']) await admin.importModel(name, writeModel(small()));
  admin.close();
  // A hundredth of the digits each: too few to learn them well from labels alone.
  for (const part of [0, 1]) {
    const args = [
      '--data',
      `mnist?partition=${part}/90&by=iid`,
      '--dir',
      join(folder, `a${part}`),
      '--coordinator',
      at(),
    ];
    const agent = commonweight('agent', '--json', '--id', `a${part}`, ...args);
    programs.push(agent);
    agents.push(agent);
  }
}, 120_000);
afterAll(async () => {
  for (const program of programs.reverse()) await program.end('SIGTERM');
  await rm(folder, { recursive: true });
});

async function run(...args: string[]): Promise<{ code: number; text: string }> {
  const program = commonweight(...args, '--coordinator', at());
  const [code] = (await once(program.child, 'exit')) as [number];
  return { code, text: program.output() };
}

/** Trains one of the two equal models, and says how many of the held-out digits it gets right then. */
async function trained(model: string, ...flags: string[]): Promise<number> {
  const plan = ['--epochs', '5', '--batch', '10', '--learning-rate', '0.1', '--encoding', 'float32'];
  const { code, text } = await run(
    ...['task', 'create', `train-${model}`, '--model', model, '--rounds', String(ROUNDS), '--cohort-min', '2'],
    ...['--start', ...plan, ...flags],
  );
  if (code !== 0) throw new Error(text);
  const admin = adminOf(port);
  await until(`${model} to be trained`, 120_000, async () => (await admin.task(`train-${model}`)).state === 'finished');
  admin.close();
  const file = join(folder, `${model}.onnx`);
  await run('model', 'export', model, file);
  const { graph, weights } = splitModel(readModel(readFileSync(file)));
  const held = await loadDataset('mnist?split=test');
  const evaluator = new Evaluator(await openEngine('ort-cpu', { threads: 1 }));
  const { correct = 0, examples } = await evaluate(graph, weights, held, {
    plan: { loss: 'cross-entropy' },
    evaluator,
  });
  await evaluator.release();
  return correct / examples;
}

test('two agents with 100 labels each make a better student with a teacher than with the labels alone', async () => {
  const plain = await trained('plain');
  const taught = await trained('taught', '--distill-from', 'teacher', '--temperature', '4', '--alpha', '0.1');
  console.log(`right on the held-out digits: ${plain} from labels alone, ${taught} with a teacher`);
  // Measured: 3 points; a third of that is held.
  expect(taught).toBeGreaterThan(plain + 0.01);
  // The teacher is fetched once by each agent, and the version is named.
  const lessons = () => agents.map((agent) => printed<AgentEvent>(agent).filter((event) => event.type === 'teacher'));
  const lesson = { event: 'teacher', type: 'teacher', model: 'teacher', version: 1 };
  await expect.poll(lessons).toEqual([[lesson], [lesson]]);
  const { text } = await run('task', 'show', 'train-taught', '--json');
  const { config } = JSON.parse(text) as { config: { teacher: unknown; plan: { distillation: unknown } } };
  expect(config.teacher).toEqual({ model: 'teacher', version: 1 });
  expect(config.plan.distillation).toEqual({ temperature: 4, alpha: 0.1 });
  // Whatever happens to that model, its version is here as long as the task is.
  expect((await run('model', 'show', 'teacher')).text).toContain('pinned');
}, 300_000);

test('a teacher that cannot teach is refused when the task is made', async () => {
  const admin = adminOf(port);
  const other = mlp({ inputs: 784, hidden: [8], outputs: 11, seed: 1 });
  await admin.importModel('eleven', writeModel(other));
  admin.close();
  const refused = async (words: string, code: number, ...flags: string[]): Promise<void> => {
    const found = await run('task', 'create', 'no', '--model', 'plain', ...flags);
    expect(found).toEqual({ code, text: expect.stringContaining(words) as string });
  };
  await refused('the teacher answers with [batch, 11] and the student with [batch, 10]', 2, '--distill-from', 'eleven');
  await refused('model "teacher" has no version 7', 1, '--distill-from', 'teacher@7');
  await refused('no model "nobody"', 1, '--distill-from', 'nobody');
  await refused('--temperature and --alpha go with --distill-from', 2, '--temperature', '3');
  await refused('distillation is for cross-entropy', 2, '--distill-from', 'teacher', '--loss', 'mse');
  await refused('distillation.alpha is out of range: 2', 2, '--distill-from', 'teacher', '--alpha', '2');
}, 120_000);

test('a student is trained on one machine from a version of the registry, and measured beside it', async () => {
  const file = join(folder, 'student.onnx');
  const data = join(folder, 'nothing.csv');
  const args = ['--student', 'mlp', '--hidden', '16', '--data', 'mnist?split=train', '--epochs', '1', '--out', file];
  const { code, text } = await run('model', 'distill', 'teacher@1', ...args, '--json');
  expect(code).toBe(0);
  const lines = text.split('\n').filter((line) => line.startsWith('{'));
  const record = JSON.parse(lines.at(-1)!) as Record<
    'student' | 'teacher',
    Record<'parameters' | 'accuracy' | 'bytes' | 'latencyMs', number>
  > & { bytes: number; measuredOn: string; examples: number };
  const { student, teacher } = record;
  expect([record.measuredOn, record.examples]).toEqual(['mnist?split=test', 1000]);
  expect(student.bytes).toBe((await stat(file)).size);
  expect(teacher.bytes).toBeGreaterThan(teacher.parameters * 4);
  expect([student.latencyMs > 0, teacher.latencyMs > 0]).toEqual([true, true]);
  expect(student.parameters).toBe(784 * 16 + 16 + 16 * 10 + 10);
  expect(student.accuracy).toBeGreaterThan(0.7);
  expect(teacher.accuracy).toBeGreaterThan(0.9);
  await writeFile(data, 'a,label\n1,0\n2,1\n');
  const unfit = await run(
    'model',
    'distill',
    'teacher',
    '--student',
    'logistic',
    '--data',
    `csv:${data}`,
    '--out',
    file,
  );
  expect(unfit).toEqual({
    code: 2,
    text: expect.stringContaining('the teacher takes float[batch, 1, 28, 28]') as string,
  });
}, 120_000);

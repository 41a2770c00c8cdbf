/** Files that are no models, damaged, or mean: `model check`, `model import` and `task create` say in one line what is wrong, and take no memory for it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { mlp, writeModel } from '@commonweight/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { badModels } from '../support/bad-models.ts';
import { freePort } from '../support/free-port.ts';
import { figuresOf } from '../support/process-figures.ts';
import { commonweight, listening, temporaryFolder, type Program } from '../support/processes.ts';
import type { Ended } from '../support/run-commands.ts';

/** MiB that all of these files may cost a process together: the largest has 100 MB itself. */
const MIB_MAX = 400;

const folder = temporaryFolder('bad-models');
const models = badModels();
const names = Object.keys(models);
const ended = new Map<string, Ended>();
let [idleMib, busyMib] = [0, 0];
let coordinator: Program;

/** Runs commands one after the other in one process. */
async function runAll(commands: readonly (readonly string[])[]): Promise<Ended[]> {
  const list = join(folder, 'commands.json');
  writeFileSync(list, JSON.stringify(commands));
  const flags = ['--disable-warning=ExperimentalWarning', '--conditions=@commonweight/source'];
  const child = spawn(process.execPath, [...flags, join(import.meta.dirname, '../support/run-commands.ts'), list]);
  let output = '';
  child.stdout.on('data', (text) => (output += String(text)));
  child.stderr.on('data', (text) => (output += String(text)));
  await once(child, 'close');
  return JSON.parse(output) as Ended[];
}

beforeAll(async () => {
  const port = await freePort();
  const at = ['--grpc', `127.0.0.1:${port}`, '--http', `127.0.0.1:${await freePort()}`];
  coordinator = commonweight('coordinator', '--data', join(folder, 'data'), ...at);
  await listening(port, coordinator);
  const url = ['--coordinator', `grpc://127.0.0.1:${port}`];
  const good = join(folder, 'good.onnx');
  writeFileSync(good, writeModel(mlp({ inputs: 4, hidden: [8], outputs: 3, seed: 1 })));
  const fileOf = (index: number): string => join(folder, `bad${index}.onnx`);
  names.forEach((name, index) => writeFileSync(fileOf(index), models[name]!.bytes));
  idleMib = figuresOf(coordinator).peakRssMib;
  const commands: [string, string[]][] = [
    ['check good', ['model', 'check', good]],
    ['import good', ['model', 'import', good, ...url]],
    ['task good', ['task', 'create', 'good', '--model', 'good', ...url]],
    ...names.flatMap((name, index): [string, string[]][] => [
      [`check ${name}`, ['model', 'check', fileOf(index)]],
      [`import ${name}`, ['model', 'import', fileOf(index), '--name', `bad${index}`, ...url]],
      [`task ${name}`, ['task', 'create', `bad${index}`, '--model', `bad${index}`, ...url]],
    ]),
    ['check empty', ['model', 'check', '/dev/null']],
    ['import empty', ['model', 'import', '/dev/null', '--name', 'empty', ...url]],
  ];
  const results = await runAll(commands.map(([, args]) => args));
  commands.forEach(([name], index) => ended.set(name, results[index]!));
  busyMib = figuresOf(coordinator).peakRssMib;
}, 180_000);

afterAll(async () => {
  await coordinator.end('SIGTERM');
  await rm(folder, { recursive: true });
});

/** One line that names cause and mend, and exit 2. */
function expectRefused({ code, stderr }: Ended, words: RegExp): void {
  expect(stderr).toMatch(words);
  expect(stderr.trim().split('\n')).toHaveLength(1);
  expect(stderr).toMatch(/^commonweight: .*[;:] /);
  expect(code).toBe(2);
}

test('a good one is taken by all three', () => {
  for (const command of ['check', 'import', 'task'])
    expect(ended.get(`${command} good`), command).toMatchObject({ code: 0 });
});

describe.each(names)('%s', (name) => {
  const { words, isServed } = models[name]!;

  test('is refused by model check', () => expectRefused(ended.get(`check ${name}`)!, words));

  test(isServed === true ? 'is imported, and refused by task create' : 'is refused by model import', () => {
    const imported = ended.get(`import ${name}`)!;
    if (isServed !== true) return expectRefused(imported, words);
    expect(imported).toMatchObject({ code: 0 });
    expectRefused(ended.get(`task ${name}`)!, words);
  });
});

test('an empty file is refused', () => {
  expectRefused(ended.get('check empty')!, /hold no ONNX graph/);
  expectRefused(ended.get('import empty')!, /is empty: give an ONNX file/);
});

test('none of them takes more memory than a few of the largest files', () => {
  const first = ended.get('check good')!.peakMib;
  const most = Math.max(...[...ended.values()].map(({ peakMib }) => peakMib));
  expect(most - first).toBeLessThan(MIB_MAX);
  expect(busyMib - idleMib).toBeLessThan(MIB_MAX);
  expect(coordinator.child.exitCode).toBe(null);
});

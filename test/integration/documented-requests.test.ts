/** The requests of README and docs/serving.md, as they stand there, to models made as it says there. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { startServing, type Serving } from '@commonweight/edge-agent';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { commonweight, temporaryFolder, until } from '../support/processes.ts';

const root = join(import.meta.dirname, '../..');
/** Where the documents have the endpoint. */
const PLACE = '127.0.0.1:8000';

/** A line with curl, and the line that the document has below it. */
const documented = ['README.md', 'docs/serving.md'].flatMap((file) => {
  const lines = readFileSync(join(root, file), 'utf8').split('\n');
  return lines.flatMap((line, index) => {
    const command = /^\$ (curl .*)$/.exec(line)?.[1];
    return command === undefined ? [] : [{ file, line: index + 1, command, answer: lines[index + 1]! }];
  });
});

let coordinator: RunningCoordinator;
let serving: Serving;

beforeAll(async () => {
  const dataDir = join(temporaryFolder('documented-requests'), 'coordinator');
  coordinator = await startCoordinator({ dataDir, grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  const url = `grpc://127.0.0.1:${coordinator.grpcPort}`;
  const text = readFileSync(join(root, 'docs/serving.md'), 'utf8');
  const [, create = ''] = /`commonweight (model create logistic flowers [^`]*)`/.exec(text) ?? [];
  const made = commonweight(...create.split(' '), '--coordinator', url);
  const [code] = (await once(made.child, 'exit')) as [number];
  expect({ code, output: made.output() }).toMatchObject({ code: 0 });
  serving = await startServing({ coordinator: url, models: ['flowers'], http: '127.0.0.1:0' });
  const isReady = async (): Promise<boolean> =>
    (await fetch(`http://127.0.0.1:${serving.httpPort}/v2/health/ready`)).ok;
  await until('the model', 30_000, isReady);
});
afterAll(async () => {
  await serving.close();
  await coordinator.close();
});

test('both documents have requests', () => {
  expect(documented.filter(({ file }) => file === 'README.md').length).toBeGreaterThanOrEqual(1);
  expect(documented.filter(({ file }) => file === 'docs/serving.md').length).toBeGreaterThanOrEqual(3);
});

/** Numbers as near as two processors may have them. */
const near = (value: unknown): unknown => {
  if (typeof value === 'number' && !Number.isInteger(value)) return expect.closeTo(value, 4);
  if (Array.isArray(value)) return value.map(near);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, near(each)]));
};

test.each(documented)('$file, line $line', async ({ command, answer }) => {
  expect(command).toContain(PLACE);
  const here = command.replaceAll(PLACE, `127.0.0.1:${serving.httpPort}`);
  const { stdout } = await promisify(execFile)('sh', ['-c', here]);
  expect(JSON.parse(stdout)).toEqual(near(JSON.parse(answer)));
});

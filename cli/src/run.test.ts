import { execFile } from 'node:child_process';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const FLAGS = ['--conditions=@commonweight/source', '--disable-warning=ExperimentalWarning'];

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

const commonweight = (...args: string[]): Promise<Ended> =>
  new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [...FLAGS, join(import.meta.dirname, 'main.ts'), ...args],
      (_, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });

test('help is given and is no failure', async () => {
  const { code, stdout } = await commonweight('task', '--help');
  expect({ code, helps: stdout.includes('watch [options] <name>') }).toEqual({ code: 0, helps: true });
});

test.each([
  ['an unknown command', ['nonsense'], "unknown command 'nonsense'"],
  ['an unknown flag', ['task', 'list', '--nonsense'], "unknown option '--nonsense'"],
  ['a bad number', ['demo', '--rounds', 'many'], 'Give a whole number from 1 to 10000.'],
  ['another machine', ['task', 'list', '--coordinator', 'grpc://192.0.2.1:1'], 'is not on this machine'],
  ['gRPC without HTTP', ['agent', '--data', 'mnist', '--serve-grpc', '127.0.0.1:0'], '--serve is missing'],
  ['an endpoint for all', ['serve', 'm', '--http', '0.0.0.0:0'], '0.0.0.0:0 is not on this machine'],
  ['an unknown form', ['serve', 'm', '--variant', 'int2'], 'Choose one of auto, fp32, int8, int4, fp16.'],
  ['a version that is no number', ['model', 'variants', 'm@new'], 'Give a whole number from 1 on.'],
  ['a margin for nothing', ['model', 'variants', 'm', '--drop-max', '1'], '--drop-max goes with --make'],
  ['a task without a model', ['task', 'create', 'x'], '--model is missing'],
])('%s is wrong usage', async (_, args, words) => {
  const { code, stderr } = await commonweight(...args);
  expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(words) as string });
});

test('a coordinator that is away is a failure of one line, for machines too', async () => {
  const { code, stdout, stderr } = await commonweight('task', 'list', '--json', '--coordinator', 'grpc://127.0.0.1:1');
  expect(code).toBe(1);
  expect(stderr).toMatch(/^commonweight: no coordinator answers at grpc:\/\/127\.0\.0\.1:1: start one with .*\n$/);
  expect(JSON.parse(stdout)).toMatchObject({ event: 'error' });
});

test('a file that is not there is named', async () => {
  expect(await commonweight('model', 'check', '/nowhere/x.onnx')).toEqual({
    code: 1,
    stdout: '',
    stderr: 'commonweight: /nowhere/x.onnx: there is no such file or folder\n',
  });
});

test('a port in use is named', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const data = join(tmpdir(), `commonweight-port-${process.pid}`);
  const { code, stderr } = await commonweight(
    'coordinator',
    '--data',
    data,
    '--grpc',
    `127.0.0.1:${port}`,
    '--http',
    '127.0.0.1:0',
  );
  server.close();
  expect({ code, lines: stderr.trim().split('\n').length }).toEqual({ code: 1, lines: 1 });
  expect(stderr).toContain(String(port));
});

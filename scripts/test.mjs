// Runs the tests: `npm test`, `npm test -- core`, `npm test -- --reporter=json`. What is after `--` goes to vitest.
import { spawn } from 'node:child_process';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const bin = join(root, 'node_modules', '.bin');
const { findNatsServer } = await import('../cli/dist/nats/find-binary.js');
const { startNatsContainer } = await import('../cli/dist/nats/container.js');

// Tests start servers of their own, from PATH; where there is no program, they share one in a container.
const binary = findNatsServer();
const container = binary === undefined && !process.env.NATS_URL ? await startNatsContainer() : undefined;
const env = { ...process.env, ...(container === undefined ? {} : { NATS_URL: container.url }) };
env.PATH = [bin, process.env.PATH, ...(binary === undefined ? [] : [dirname(binary)])].join(delimiter);

const child = spawn(join(bin, 'vitest'), ['run', ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
  env,
  shell: process.platform === 'win32',
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.once('exit', async (code, signal) => {
  await container?.close();
  process.exit(signal === null ? code : 1);
});

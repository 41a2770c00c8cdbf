import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './free-port.ts';
import { answers } from './answers.ts';

/** A NATS server that somebody can use, and what ends it where it is ours. */
export interface NatsServer {
  url: string;
  how: string;
  close(): Promise<void>;
}

const START_MS = 10_000;

/** Starts a server on a free port of the loopback interface. Only core NATS: nothing is kept on disk. */
export async function startNatsServer(binary: string): Promise<NatsServer> {
  const folder = await mkdtemp(join(tmpdir(), 'commonweight-nats-'));
  const port = await freePort();
  const child = spawn(binary, ['--addr', '127.0.0.1', '--port', String(port)], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let words = '';
  child.stderr.on('data', (text) => (words = `${words}${String(text)}`.slice(-2000)));
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()).once('error', () => resolve()));
  const end = (): void => void child.kill('SIGKILL');
  process.once('exit', end);
  const close = async (): Promise<void> => {
    process.off('exit', end);
    child.kill('SIGTERM');
    await gone;
    await rm(folder, { recursive: true, force: true });
  };
  const url = `nats://127.0.0.1:${port}`;
  const endMs = Date.now() + START_MS;
  while (!(await answers(url))) {
    if (Date.now() > endMs || child.exitCode !== null) {
      await close();
      throw new Error(`${binary} does not start: ${words.trim().split('\n').at(-1) ?? 'it said nothing'}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { url, how: binary, close };
}

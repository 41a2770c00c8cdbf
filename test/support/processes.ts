import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { connect } from 'node:net';
import { join } from 'node:path';

const root = join(import.meta.dirname, '../..');
/** Where Node keeps what it made of our sources: a process that is started again, as most are here, starts in half of the time. */
const COMPILE_CACHE = join(root, 'node_modules/.cache/commonweight-tests');

/** A program under test, with all that it printed. */
export interface Program {
  readonly child: ChildProcess;
  readonly output: () => string;
  /** Ends it with a signal and waits until it is gone. */
  end(signal: NodeJS.Signals): Promise<void>;
}

export const temporaryFolder = (name: string): string => mkdtempSync(join(tmpdir(), `commonweight-${name}-`));

/** The `commonweight` command from its sources, in a process of its own. */
export const commonweight = (...args: string[]): Program => commonweightWith({}, ...args);

/** The same, with more in its environment. */
export const commonweightWith = (env: Readonly<Record<string, string>>, ...args: string[]): Program =>
  program(process.execPath, [...SOURCE_FLAGS, join(root, 'cli/src/main.ts'), ...args], env);

const SOURCE_FLAGS = ['--disable-warning=ExperimentalWarning', '--conditions=@commonweight/source'];

/** A source file, by its path from the root, in a process of its own. */
export function sourceProgram(path: string, ...args: string[]): Program {
  return program(process.execPath, [...SOURCE_FLAGS, join(root, path), ...args]);
}

/** A real NATS server on a port; found on PATH, where `npm test` put it. */
export const natsServer = (port: number): Program =>
  program('nats-server', ['--addr', '127.0.0.1', '--port', String(port)]);

/** One that browsers can reach as well. */
export function natsServerWithWebSocket(port: number, webSocketPort: number): Program {
  const file = join(temporaryFolder('nats'), 'nats.conf');
  const webSocket = `websocket { host: "127.0.0.1", port: ${webSocketPort}, no_tls: true }`;
  writeFileSync(file, `host: "127.0.0.1"\nport: ${port}\n${webSocket}\n`);
  return program('nats-server', ['--config', file]);
}

/** A program with all that it prints. */
export function program(command: string, args: string[], more: Readonly<Record<string, string>> = {}): Program {
  const path = `${process.env['PATH'] ?? ''}:/usr/sbin`;
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { NODE_COMPILE_CACHE: COMPILE_CACHE, ...process.env, PATH: path, ...more },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += String(text)));
  const gone = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', (error) => {
      output += `${error.message}\n`;
      resolve();
    });
  });
  return {
    child,
    output: () => output,
    end: async (signal) => {
      child.kill(signal);
      await gone;
    },
  };
}

/** The objects that a program has printed so far, each in a line that is whole. */
export function printed<T>({ output }: Program): T[] {
  const lines = output().split('\n').slice(0, -1);
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as T);
}

/** Waits until something listens on the port; fails with what the program printed. */
export async function listening(port: number, of: Program): Promise<void> {
  await until(`${port} to listen`, 30_000, () => connects(port), of.output);
}

const connects = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

/** How many times longer than on an idle machine things may take before a test gives up on them. */
const PATIENCE = 6;

/** Asks again every 50 ms until the answer is true. `withinMs` is what it takes at most where nothing else runs. */
export async function until(
  what: string,
  withinMs: number,
  isSo: () => boolean | Promise<boolean>,
  context: () => string = () => '',
): Promise<void> {
  const endMs = Date.now() + PATIENCE * withinMs;
  while (!(await isSo())) {
    if (Date.now() > endMs) throw new Error(`waited ${PATIENCE * withinMs} ms for ${what}\n${context()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

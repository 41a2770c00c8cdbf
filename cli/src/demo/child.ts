import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

const isSource = import.meta.url.endsWith('.ts');
const NODE_FLAGS = [
  ...(isSource ? ['--conditions=@commonweight/source'] : []),
  '--disable-warning=ExperimentalWarning',
];
const END_MS = 8000;

/** A program that runs as a child of the demo and reports to it. */
export interface ChildSpec {
  name: string;
  /** A module of this folder's, without its ending: `../main` or `./app`. */
  module: string;
  args: readonly string[];
  onMessage(message: Record<string, unknown>): void;
  /** How often it may be started again after it broke down. */
  restartsMax: number;
  onRestart?(why: string, restarts: number): void;
}

/** A child that is started again when it breaks down, and ended with the demo. */
export class Child {
  readonly #spec: ChildSpec;
  /** Rejects when the child is past saving. */
  readonly failed: Promise<never>;
  readonly #fail: (error: Error) => void;
  #process: ChildProcess;
  #gone: Promise<unknown>;
  #restarts = 0;
  #ending = false;

  constructor(spec: ChildSpec) {
    this.#spec = spec;
    const { promise, reject } = Promise.withResolvers<never>();
    this.failed = promise;
    this.failed.catch(() => {});
    this.#fail = reject;
    [this.#process, this.#gone] = this.#start();
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Ends it as an operator would, and by force if it does not listen. */
  async end(): Promise<void> {
    this.#ending = true;
    this.#process.kill('SIGTERM');
    const force = setTimeout(() => this.#process.kill('SIGKILL'), END_MS);
    await this.#gone;
    clearTimeout(force);
  }

  #start(): [ChildProcess, Promise<unknown>] {
    const { module, args, onMessage } = this.#spec;
    const file = new URL(`${module}${isSource ? '.ts' : '.js'}`, import.meta.url);
    const child = fork(file, args, { execArgv: NODE_FLAGS, stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
    let lastWords = '';
    child.stderr?.on('data', (text) => {
      lastWords = `${lastWords}${String(text)}`.slice(-2000);
      if (process.env['COMMONWEIGHT_DEBUG'] !== undefined) process.stderr.write(`[${this.#spec.name}] ${String(text)}`);
    });
    child.on('message', (message) => onMessage(message as Record<string, unknown>));
    // 'close' comes after the last message and the last words.
    const gone = once(child, 'close').then(([code, signal]: (number | string | null)[]) => {
      const cause = signal === null ? `exit code ${code}` : `${signal}`;
      this.#onGone(lastWords.trim().split('\n').at(-1) || cause, signal !== null);
    });
    gone.catch((error: Error) => this.#fail(error));
    return [child, gone];
  }

  #onGone(why: string, isKilled: boolean): void {
    if (this.#ending) return;
    const { name, restartsMax, onRestart } = this.#spec;
    // What gives up by itself says why, and would do so again.
    if (!isKilled || this.#restarts >= restartsMax) return this.#fail(new Error(`${name} ended: ${why}`));
    this.#restarts += 1;
    onRestart?.(why, this.#restarts);
    [this.#process, this.#gone] = this.#start();
  }
}

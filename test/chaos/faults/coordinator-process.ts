import { freePort } from '../../support/free-port.ts';
import { commonweightWith, listening, type Program } from '../../support/processes.ts';
import { endWithin } from './end-within.ts';

/** A real coordinator that may be killed, stopped and started again at its address. */
export class CoordinatorProcess {
  readonly port: number;
  readonly httpPort: number;
  /** Set before the start. */
  dataDir = '';
  /** It ended without having been told to. */
  onSurprise: (text: string) => void = () => {};
  /** More arguments of the command, from the next start on. */
  args: readonly string[];
  /** More of its environment, from the next start on. */
  env: Readonly<Record<string, string>> = {};
  #program: Program | undefined;
  #endings = 0;

  private constructor(ports: readonly [number, number], args: readonly string[]) {
    [this.port, this.httpPort] = ports;
    this.args = args;
  }

  /** One that is not started yet, with more arguments of the command. */
  static async at(...args: readonly string[]): Promise<CoordinatorProcess> {
    return new CoordinatorProcess([await freePort(), await freePort()], args);
  }

  get pid(): number | undefined {
    return this.#program?.child.pid;
  }

  get runs(): boolean {
    const child = this.#program?.child;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  output(): string {
    return this.#program?.output() ?? '';
  }

  start(): void {
    const at = ['--grpc', `127.0.0.1:${this.port}`, '--http', `127.0.0.1:${this.httpPort}`];
    const program = commonweightWith(this.env, 'coordinator', '--data', this.dataDir, ...at, ...this.args);
    this.#program = program;
    const endings = this.#endings;
    program.child.once('exit', (code, signal) => {
      if (this.#endings !== endings) return;
      this.onSurprise(`the coordinator ended by itself (${signal ?? code}): ${program.output().slice(-1000)}`);
    });
  }

  /** Starts it and waits until it listens. */
  async serving(): Promise<void> {
    this.start();
    await listening(this.port, this.#program!);
  }

  signal(signal: NodeJS.Signals): void {
    this.#program?.child.kill(signal);
  }

  /** Ends it; gives the exit code, null where it had to be killed. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    this.#endings += 1;
    const program = this.#program;
    if (program !== undefined) await endWithin(program, signal);
    return program?.child.exitCode ?? null;
  }
}

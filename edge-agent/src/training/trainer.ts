import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { DataError } from '../data/dataset.ts';
import { probeEngine, type EngineName, type RunsOn } from './engines.ts';
import type { FromTrainer, TrainingJob, TrainingResult } from './messages.ts';
import type { MadeReport, ReportJob } from './reports.ts';

/** A training that brought nothing: the reason is told to the coordinator. */
export class TrainingError extends Error {
  override name = 'TrainingError';
}

type Done = TrainingResult | MadeReport;

interface Waiting {
  resolve(result: Done): void;
  reject(error: Error): void;
}

/** Trains in a process of its own, which is started again when it dies. */
export class Trainer {
  readonly #data: string;
  #on: RunsOn;
  readonly #warn: (text: string) => void;
  #child: ChildProcess | undefined;
  #waiting: Waiting | undefined;
  #id = 0;
  #isClosed = false;

  private constructor(data: string, on: RunsOn, warn: (text: string) => void) {
    this.#data = data;
    this.#on = on;
    this.#warn = warn;
  }

  /**
   * Starts the process and opens the data there. An engine that does not train here, or fails later, makes way for the CPU, and that is
   * told. Throws DataError where the data cannot be read.
   */
  static async open(
    data: string,
    on: RunsOn,
    warn: (text: string) => void,
  ): Promise<{ trainer: Trainer; examples: number }> {
    const trainer = new Trainer(data, on, warn);
    if (on.engine !== 'cpu') {
      const report = await probeEngine(on);
      if (!report.works) trainer.#fallBack(report.why);
    }
    return { trainer, examples: await trainer.#start() };
  }

  /** Throws TrainingError when the process failed, died, took longer than `timeMs`, or was stopped by the signal. */
  train(job: TrainingJob, timeMs: number, signal?: AbortSignal): Promise<TrainingResult> {
    return this.#do({ type: 'train', job }, timeMs, signal) as Promise<TrainingResult>;
  }

  /** Measures weights, or the examples themselves. Throws TrainingError as a training does. */
  report(job: ReportJob, timeMs: number, signal?: AbortSignal): Promise<MadeReport> {
    return this.#do({ type: 'report', job }, timeMs, signal) as Promise<MadeReport>;
  }

  async #do(
    asked: { type: 'train'; job: TrainingJob } | { type: 'report'; job: ReportJob },
    timeMs: number,
    signal?: AbortSignal,
  ): Promise<Done> {
    // A process that is started now would have nobody to end it.
    if (this.#isClosed) throw new TrainingError('the agent was stopped');
    if (this.#child === undefined) await this.#start();
    const id = ++this.#id;
    const stop = (): void => {
      // It ends after the step that it is at, and its data stays loaded.
      this.#child?.send({ type: 'stop', id });
      this.#give(new TrainingError('training was stopped'), false);
    };
    signal?.addEventListener('abort', stop, { once: true });
    const timer = setTimeout(
      () => this.#give(new TrainingError(`training took longer than the ${timeMs} ms of the round`), true),
      timeMs,
    );
    const { promise, ...waiting } = Promise.withResolvers<Done>();
    try {
      this.#waiting = waiting;
      signal?.throwIfAborted();
      this.#child?.send({ ...asked, id });
      return await promise;
    } catch (error) {
      if (this.#on.engine !== 'cpu' && !this.#isClosed && signal?.aborted !== true) {
        this.#fallBack((error as Error).message);
        await this.#end();
      }
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
      // The next training may have begun.
      if (this.#waiting === waiting) this.#waiting = undefined;
    }
  }

  /** What trains now. */
  get engine(): EngineName {
    return this.#on.engine;
  }

  /** Of the process, while there is one. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Ends the process; a training that runs is given up. */
  close(): Promise<void> {
    this.#isClosed = true;
    return this.#end();
  }

  /** From the next start of the process on. */
  #fallBack(why: string): void {
    this.#warn(
      `${this.#on.engine} does not train here (${why}): the CPU does from now on; see \`commonweight agent doctor\``,
    );
    this.#on = { ...this.#on, engine: 'cpu' };
  }

  #end(): Promise<void> {
    this.#waiting?.reject(new TrainingError('the agent was stopped'));
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
      child.once('exit', () => resolve());
      child.kill('SIGKILL');
    });
  }

  /** A process that refused the data is no trainer: it is ended, and the next training tries again. */
  async #start(): Promise<number> {
    try {
      return await this.#opened();
    } catch (error) {
      await this.#end();
      throw error;
    }
  }

  #opened(): Promise<number> {
    const isSource = import.meta.url.endsWith('.ts');
    const flags = ['--disable-warning=ExperimentalWarning', ...(isSource ? ['--conditions=@commonweight/source'] : [])];
    const child = fork(
      fileURLToPath(new URL(isSource ? './trainer-process.ts' : './trainer-process.js', import.meta.url)),
      [],
      {
        execArgv: flags,
        serialization: 'advanced',
      },
    );
    this.#child = child;
    return new Promise((resolve, reject) => {
      child.on('message', (message: FromTrainer) => {
        if (message.type === 'opened') resolve(message.examples);
        else if (message.type === 'refused') reject(new DataError(message.reason));
        else this.#take(message);
      });
      child.once('exit', (code, signal) => {
        const error = new TrainingError(`the training process ended (${signal ?? `exit code ${code}`})`);
        reject(error);
        if (this.#child !== child) return;
        this.#child = undefined;
        this.#give(error, false);
      });
      child.send({ type: 'open', data: this.#data, on: this.#on });
    });
  }

  #take(message: Extract<FromTrainer, { id: number }>): void {
    if (message.id !== this.#id) return;
    if (message.type !== 'failed') this.#waiting?.resolve(message.result);
    else this.#waiting?.reject(new TrainingError(message.reason));
  }

  #give(error: Error, killing: boolean): void {
    this.#waiting?.reject(error);
    if (!killing) return;
    const child = this.#child;
    this.#child = undefined;
    child?.kill('SIGKILL');
  }
}

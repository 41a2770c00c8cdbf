import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { Evaluation } from '@commonweight/edge-agent';
import { CommandError } from '../output/failure.ts';
import type { ClientJob, ClientResult, EvaluateJob, FromWorker, ToWorker, WorkerSetup } from './messages.ts';

interface Waiting {
  resolve(result: ClientResult | Evaluation): void;
  reject(error: Error): void;
}

interface Task extends Waiting {
  message: ClientJob | EvaluateJob;
}

/** Threads that play clients; a job goes to the first that is free. */
export class ClientPool {
  readonly #workers: Worker[];
  readonly #idle: Worker[];
  readonly #exits: Promise<unknown>[] = [];
  readonly #queue: Task[] = [];
  readonly #waiting = new Map<number, Waiting>();
  #id = 0;
  #closed: Promise<void> | undefined;

  constructor(setup: WorkerSetup, threads: number = availableParallelism()) {
    const isSource = import.meta.url.endsWith('.ts');
    const url = new URL(isSource ? './client-worker.ts' : './client-worker.js', import.meta.url);
    const execArgv = [
      ...(isSource ? ['--conditions=@commonweight/source'] : []),
      '--disable-warning=ExperimentalWarning',
    ];
    this.#workers = Array.from({ length: threads }, () => {
      const worker = new Worker(url, { workerData: setup, execArgv });
      worker.on('message', (message: FromWorker) => this.#answered(worker, message));
      this.#exits.push(new Promise((resolve) => worker.once('exit', resolve)));
      worker.once('error', (error: Error) => this.#failAll(error));
      return worker;
    });
    this.#idle = [...this.#workers];
  }

  play(job: Omit<ClientJob, 'type' | 'id'>): Promise<ClientResult> {
    return this.#do({ ...job, type: 'client', id: ++this.#id }) as Promise<ClientResult>;
  }

  evaluate(job: Omit<EvaluateJob, 'type' | 'id'>): Promise<Evaluation> {
    return this.#do({ ...job, type: 'evaluate', id: ++this.#id }) as Promise<Evaluation>;
  }

  get threads(): number {
    return this.#workers.length;
  }

  /** Gives up what waits, and resolves when what runs is done: a thread that is ended amid native code takes the process with it. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const stopped = new CommandError('the simulation was stopped');
    for (const { reject } of [...this.#queue.splice(0), ...this.#waiting.values()]) reject(stopped);
    for (const worker of this.#workers) worker.postMessage({ type: 'end' } satisfies ToWorker);
    await Promise.all(this.#exits);
  }

  #do(message: ClientJob | EvaluateJob): Promise<ClientResult | Evaluation> {
    if (this.#closed !== undefined) return Promise.reject(new CommandError('the simulation was stopped'));
    return new Promise((resolve, reject) => {
      this.#queue.push({ message, resolve, reject });
      this.#next();
    });
  }

  #next(): void {
    const worker = this.#idle.at(-1);
    const task = this.#queue[0];
    if (worker === undefined || task === undefined) return;
    this.#idle.pop();
    this.#queue.shift();
    this.#waiting.set(task.message.id, task);
    worker.postMessage(task.message);
  }

  #answered(worker: Worker, message: FromWorker): void {
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    this.#idle.push(worker);
    this.#next();
    if ('failure' in message) waiting?.reject(new CommandError(message.failure));
    else waiting?.resolve(message.result);
  }

  #failAll(error: Error): void {
    for (const { reject } of [...this.#queue.splice(0), ...this.#waiting.values()]) reject(error);
    this.#waiting.clear();
  }
}

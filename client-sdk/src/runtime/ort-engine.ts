import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { ModelError } from '../errors.ts';
import type { WorkerReply, WorkerRequest } from './messages.ts';
import type { TypedTensor } from './tensor.ts';

/** A loaded model. */
export interface Session {
  /** The buffers of the feeds are handed over: they cannot be used afterwards. */
  run(feeds: Record<string, TypedTensor>): Promise<Record<string, TypedTensor>>;
  release(): Promise<void>;
}

/** What loads and runs models. */
export interface Engine {
  load(onnx: Uint8Array): Promise<Session>;
  close(): Promise<void>;
}

/** Models of this size and more are loaded from a file, which takes the runtime half the memory. */
const FILE_BYTES_MIN = 1024 * 1024;

/** ONNX Runtime in one worker thread, started with the first model. */
export class OrtEngine implements Engine {
  readonly #threads: number;
  readonly #waiting = new Map<number, PromiseWithResolvers<WorkerReply>>();
  #worker: Worker | undefined;
  #requests = 0;
  #closing: Promise<void> | undefined;

  constructor({ threads = 1 }: { threads?: number } = {}) {
    this.#threads = threads;
  }

  async load(onnx: Uint8Array): Promise<Session> {
    const reply = onnx.length < FILE_BYTES_MIN ? await this.#load(onnx) : await this.#loadFromFile(onnx);
    const session = (reply as { session: number }).session;
    return {
      run: async (feeds) => {
        const buffers = Object.values(feeds).map(({ data }) => data.buffer as ArrayBuffer);
        const answer = await this.#ask({ kind: 'run', session, feeds }, [...new Set(buffers)]);
        return (answer as { outputs: Record<string, TypedTensor> }).outputs;
      },
      release: async () => {
        if (this.#worker !== undefined) await this.#ask({ kind: 'release', session });
      },
    };
  }

  #load(model: Uint8Array | string): Promise<WorkerReply> {
    return this.#ask({ kind: 'load', model, threads: this.#threads });
  }

  async #loadFromFile(onnx: Uint8Array): Promise<WorkerReply> {
    const folder = await mkdtemp(join(tmpdir(), 'commonweight-'));
    try {
      const path = join(folder, 'model.onnx');
      await writeFile(path, onnx);
      return await this.#load(path);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** Ends after every run has: ending a worker during a run would abort the whole process. */
  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  async #shutDown(): Promise<void> {
    const worker = this.#worker;
    if (worker === undefined) return;
    while (this.#waiting.size > 0) await Promise.allSettled([...this.#waiting.values()].map(({ promise }) => promise));
    const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
    await this.#post(worker, { kind: 'shut-down' }, []);
    await exited;
    this.#worker = undefined;
  }

  #ask(request: WorkerRequest, transfer: ArrayBuffer[] = []): Promise<WorkerReply> {
    if (this.#closing !== undefined) return Promise.reject(new ModelError('the client is closed'));
    this.#worker ??= this.#start();
    return this.#post(this.#worker, request, transfer);
  }

  #post(worker: Worker, request: WorkerRequest, transfer: ArrayBuffer[]): Promise<WorkerReply> {
    const reply = Promise.withResolvers<WorkerReply>();
    this.#requests += 1;
    this.#waiting.set(this.#requests, reply);
    worker.postMessage({ id: this.#requests, request }, transfer);
    return reply.promise;
  }

  #start(): Worker {
    const source = import.meta.url.endsWith('.ts');
    const worker = new Worker(new URL(source ? './ort-worker.ts' : './ort-worker.js', import.meta.url), {
      execArgv: [...(source ? ['--conditions=@commonweight/source'] : []), '--disable-warning=ExperimentalWarning'],
    });
    worker.on('message', (reply: WorkerReply) => {
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if ('error' in reply) waiting?.reject(new ModelError(reply.error));
      else waiting?.resolve(reply);
    });
    worker.on('error', (error) => this.#fail(`the inference worker failed: ${error.message}`));
    worker.on('exit', () => this.#fail('the inference worker ended'));
    return worker;
  }

  #fail(message: string): void {
    this.#worker = undefined;
    for (const { reject } of this.#waiting.values()) reject(new ModelError(message));
    this.#waiting.clear();
  }
}

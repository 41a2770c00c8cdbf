import { ModelError, WorkerLostError } from '../errors.ts';
import type { Engine, EngineName, Session } from './engine.ts';
import type { WorkerReply, WorkerRequest, WorkerResult } from './messages.ts';
import type { TypedTensor } from './tensor.ts';

/** A worker of any platform. */
export interface WorkerPort {
  post(message: { id: number; request: WorkerRequest }, transfer: ArrayBuffer[]): void;
  /** Resolves once a worker that was told to shut down is gone. */
  gone(): Promise<void>;
}

/** Starts a worker that tells of its replies and of its end. */
export type StartWorker = (onReply: (reply: WorkerReply) => void, onEnd: (why: string) => void) => WorkerPort;

/** A runtime in one worker, started with the first request. */
export class WorkerEngine implements Engine {
  readonly name: EngineName;
  readonly #startWorker: StartWorker;
  readonly #threads: number;
  readonly #waiting = new Map<number, PromiseWithResolvers<WorkerResult>>();
  #worker: WorkerPort | undefined;
  #requests = 0;
  #closing: Promise<void> | undefined;

  constructor(name: EngineName, startWorker: StartWorker, { threads = 1 }: { threads?: number } = {}) {
    this.name = name;
    this.#startWorker = startWorker;
    this.#threads = threads;
  }

  async runtime(): Promise<string> {
    const { runtime } = (await this.#ask({ kind: 'about' })) as { runtime: string };
    return isUsual(this.name) ? runtime : `${runtime} ${this.name}`;
  }

  load(onnx: Uint8Array): Promise<Session> {
    return this.loadFrom(onnx);
  }

  /** Loads a model from its bytes or, where the worker can read one, from a file. */
  protected async loadFrom(model: Uint8Array | string): Promise<Session> {
    const reply = await this.#ask({ kind: 'load', model, threads: this.#threads, engine: this.name });
    const { session } = reply as { session: number };
    // Another worker numbers its sessions from 1 again: the number would be another model's.
    const worker = this.#worker;
    const ask = (request: WorkerRequest & { feeds: Record<string, TypedTensor> }): Promise<WorkerResult> => {
      if (this.#worker !== worker) throw new WorkerLostError('the inference worker ended, and the model with it');
      const buffers = Object.values(request.feeds).flatMap(({ data }) =>
        ArrayBuffer.isView(data) ? [data.buffer as ArrayBuffer] : [],
      );
      return this.#ask(request, [...new Set(buffers)]);
    };
    return {
      run: async (feeds) =>
        ((await ask({ kind: 'run', session, feeds })) as { outputs: Record<string, TypedTensor> }).outputs,
      time: async (feeds, runs) => ((await ask({ kind: 'time', session, feeds, runs })) as { ms: number }).ms,
      release: async () => {
        if (this.#worker === worker && worker !== undefined) await this.#ask({ kind: 'release', session });
      },
    };
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
    const gone = worker.gone();
    await this.#post(worker, { kind: 'shut-down' }, []);
    await gone;
    this.#worker = undefined;
  }

  #ask(request: WorkerRequest, transfer: ArrayBuffer[] = []): Promise<WorkerResult> {
    if (this.#closing !== undefined) return Promise.reject(new ModelError('the client is closed'));
    this.#worker ??= this.#start();
    return this.#post(this.#worker, request, transfer);
  }

  #start(): WorkerPort {
    const worker = this.#startWorker(
      (reply) => this.#hear(reply),
      (why) => {
        // The one that came after it may have begun already.
        if (this.#worker === worker) this.#fail(why);
      },
    );
    return worker;
  }

  #post(worker: WorkerPort, request: WorkerRequest, transfer: ArrayBuffer[]): Promise<WorkerResult> {
    const reply = Promise.withResolvers<WorkerResult>();
    this.#requests += 1;
    this.#waiting.set(this.#requests, reply);
    worker.post({ id: this.#requests, request }, transfer);
    return reply.promise;
  }

  #hear(reply: WorkerReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if ('error' in reply) waiting?.reject(new ModelError(reply.error));
    else waiting?.resolve(reply);
  }

  #fail(message: string): void {
    this.#worker = undefined;
    for (const { reject } of this.#waiting.values()) reject(new WorkerLostError(message));
    this.#waiting.clear();
  }
}

/** Those of which the worker's own name says enough. */
const isUsual = (name: EngineName): boolean => name === 'ort-cpu' || name === 'ort-web';

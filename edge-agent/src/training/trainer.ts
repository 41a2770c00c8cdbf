import { DataError } from '../data/dataset.ts';
import type { EngineName } from './engine.ts';
import type { EngineOrder } from './engines/engine-order.ts';
import type { CpuBudget, FromTrainer, Teacher, ToTrainer, TrainingJob, TrainingResult } from './messages.ts';
import type { MadeReport, ReportJob } from './reports.ts';

/** A training that brought nothing: the reason is told to the coordinator. */
export class TrainingError extends Error {
  override name = 'TrainingError';
  /** Whether the engine is to blame: it crashed, hung, ran out of memory or cannot do it. */
  readonly isEngines: boolean;

  constructor(message: string, { isEngines = false, ...options }: ErrorOptions & { isEngines?: boolean } = {}) {
    super(message, options);
    this.isEngines = isEngines;
  }
}

/** A teacher that is read where the process does not have it yet. */
export interface TeacherSource {
  key: string;
  read(): Promise<Uint8Array>;
}

export interface TrainingOptions {
  /** Stops it. */
  signal?: AbortSignal | undefined;
  /** What the plan's distillation learns from. */
  teacher?: TeacherSource | undefined;
}

/** A process, or a browser's worker, that trains. */
export interface TrainerPort<Data> {
  /** Of a process. */
  pid?: number | undefined;
  post(message: ToTrainer<Data>): void;
  /** Ends it whatever it does; resolves once it is gone. */
  end(): Promise<void>;
}

/** Starts one, which tells what it says and, once, that it ended by itself. */
export type StartTrainer<Data> = (
  onMessage: (message: FromTrainer) => void,
  onEnd: (why: string) => void,
) => TrainerPort<Data>;

export interface TrainerOptions<Data> {
  data: Data;
  engines: EngineOrder;
  budget: CpuBudget;
  start: StartTrainer<Data>;
  warn(text: string): void;
  /** Without a step, or a graph that is compiled, for so long a process hangs. */
  stallMs?: number;
}

/** A GPU may compile for long, and a slow device may take long for a step. */
const STALL_MS = 120_000;

type Asked = { type: 'train'; job: TrainingJob } | { type: 'report'; job: ReportJob };
type Done = TrainingResult | MadeReport;

interface Waiting {
  id: number;
  resolve(result: Done): void;
  reject(error: TrainingError): void;
}

/** Trains in a process of its own, which is started again when it dies. An engine that fails makes way for the next. */
export class Trainer<Data> {
  readonly #options: TrainerOptions<Data>;
  #running: { port: TrainerPort<Data>; engine: EngineName } | undefined;
  #waiting: Waiting | undefined;
  #stall: ReturnType<typeof setTimeout> | undefined;
  #trainings = 0;
  /** The teacher that a process was given last. */
  #taught: { port: TrainerPort<Data>; key: string } | undefined;
  #isClosed = false;

  constructor(options: TrainerOptions<Data>) {
    this.#options = options;
  }

  /** Starts the process and opens the data there; answers how many examples there are. Throws DataError where they cannot be read. */
  open(): Promise<number> {
    return this.#start(this.#options.engines.next(performance.now()));
  }

  /** Throws TrainingError when the process failed, died, hung, took longer than `timeMs`, or was stopped by the signal. */
  train(job: TrainingJob, timeMs: number, { signal, teacher }: TrainingOptions = {}): Promise<TrainingResult> {
    const asked = async (): Promise<Asked> => ({
      type: 'train',
      job: teacher === undefined ? job : { ...job, teacher: await this.#teacher(teacher) },
    });
    return this.#do(asked, timeMs, signal) as Promise<TrainingResult>;
  }

  /** Measures weights, or the examples themselves. Throws TrainingError as a training does. */
  report(job: ReportJob, timeMs: number, signal?: AbortSignal): Promise<MadeReport> {
    return this.#do(() => Promise.resolve({ type: 'report', job }), timeMs, signal) as Promise<MadeReport>;
  }

  /** What is asked is made once there is a process to ask. */
  async #do(ask: () => Promise<Asked>, timeMs: number, signal?: AbortSignal): Promise<Done> {
    // A process that is started now would have nobody to end it.
    if (this.#isClosed) throw new TrainingError('the agent was stopped');
    const { engines } = this.#options;
    const engine = engines.next(performance.now());
    if (this.#running !== undefined && this.#running.engine !== engine) await this.#end();
    if (this.#running === undefined) await this.#start(engine);
    try {
      const asked = await ask();
      if (this.#isClosed) throw new TrainingError('the agent was stopped');
      const result = await this.#done(asked, timeMs, signal);
      engines.worked(engine);
      return result;
    } catch (error) {
      // Whether the process took the teacher in is not known: it gets it again.
      this.#taught = undefined;
      if (!(error instanceof TrainingError) || !error.isEngines || this.#isClosed) throw error;
      await this.#setAside(engine, error);
      throw new TrainingError(`${engine} failed: ${error.message}`, { isEngines: true, cause: error });
    }
  }

  /** What trains now, or will. */
  get engine(): EngineName {
    return this.#running?.engine ?? this.#options.engines.next(performance.now());
  }

  /** Of the process, while there is one. */
  get pid(): number | undefined {
    return this.#running?.port.pid;
  }

  /** Ends the process; a training that runs is given up. */
  close(): Promise<void> {
    this.#isClosed = true;
    this.#give(new TrainingError('the agent was stopped'));
    return this.#end();
  }

  async #teacher({ key, read }: TeacherSource): Promise<Teacher> {
    const port = this.#running?.port;
    if (this.#taught?.port === port && this.#taught?.key === key) return { key };
    const onnx = await read();
    this.#taught = port === undefined ? undefined : { port, key };
    return { key, onnx };
  }

  async #done(asked: Asked, timeMs: number, signal?: AbortSignal): Promise<Done> {
    const { promise, ...waiting } = Promise.withResolvers<Done>();
    const id = ++this.#trainings;
    this.#waiting = { id, ...waiting };
    const stop = (): void => {
      // It ends after the step that it is at, and its data stays loaded.
      this.#running?.port.post({ type: 'stop', id });
      waiting.reject(new TrainingError('training was stopped'));
    };
    signal?.addEventListener('abort', stop, { once: true });
    const timer = setTimeout(() => {
      this.#give(new TrainingError(`training took longer than the ${timeMs} ms of the round`));
      void this.#end();
    }, timeMs);
    this.#watch();
    this.#running?.port.post({ ...asked, id });
    try {
      if (signal?.aborted === true) stop();
      return await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
      // The next training may have begun.
      if (this.#waiting?.id === id) {
        clearTimeout(this.#stall);
        this.#waiting = undefined;
      }
    }
  }

  /** Begins to wait anew for a sign of life. */
  #watch(): void {
    const { stallMs = STALL_MS } = this.#options;
    clearTimeout(this.#stall);
    this.#stall = setTimeout(() => {
      const why = `the training process hung: no step was done within ${stallMs / 1000} s`;
      this.#give(new TrainingError(why, { isEngines: true }));
      void this.#end();
    }, stallMs);
  }

  async #setAside(engine: EngineName, { message }: TrainingError): Promise<void> {
    const { engines, warn } = this.#options;
    const minutes = Math.round(engines.failed(engine, performance.now()) / 60_000);
    const next = engines.next(performance.now());
    const instead =
      next === engine ? 'there is no other engine, so it is tried again' : `${next} trains for ${minutes} min`;
    warn(`${engine} failed (${message}): ${instead}; see \`commonweight agent doctor\``);
    await this.#end();
  }

  #give(error: TrainingError): void {
    this.#waiting?.reject(error);
  }

  async #end(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await running?.port.end();
  }

  /** A process that refused the data is no trainer: it is ended, and the next training tries again. */
  async #start(engine: EngineName): Promise<number> {
    const { data, budget, start } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const port = start(
      (message) => {
        if (message.type === 'opened') resolve(message.examples);
        else if (message.type === 'refused') reject(new DataError(message.reason));
        else this.#take(message);
      },
      (why) => {
        const error = new TrainingError(why, { isEngines: true });
        reject(error);
        if (this.#running?.port !== port) return;
        this.#running = undefined;
        this.#give(error);
      },
    );
    this.#running = { port, engine };
    port.post({ type: 'open', data, engine, budget });
    try {
      return await promise;
    } catch (error) {
      await this.#end();
      throw error;
    }
  }

  #take(message: Extract<FromTrainer, { id: number }>): void {
    const waiting = this.#waiting;
    if (waiting === undefined || message.id !== waiting.id) return;
    if (message.type === 'progress') this.#watch();
    else if (message.type !== 'failed') waiting.resolve(message.result);
    else waiting.reject(new TrainingError(message.reason, { isEngines: message.isEngines }));
  }
}

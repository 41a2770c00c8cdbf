/** Lets requests wait for each other, and for their turn, within bounds. */
import type { Prediction, Tensor } from '@commonweight/client-sdk';
import { asServingError, ServingError } from '../errors.ts';
import { nextBatch, type BatchPolicy, type Waiting } from './next-batch.ts';
import { joinRows, rowsOf, shapeKey, splitRows, type Tensors } from './rows.ts';

/** What a request is answered with. */
export type Answer = Pick<Prediction, 'outputs' | 'version'>;

export interface BatcherOptions extends BatchPolicy {
  /** Requests that may wait; one more is refused. */
  queueMax: number;
  /** Runs at once. Two keep the worker busy while an answer is on its way back. */
  runsMax: number;
}

/** What the batcher runs and whom it tells. */
export interface BatcherParts {
  /** The name in messages. */
  model: string;
  options: BatcherOptions;
  predict(inputs: Record<string, Tensor>): Promise<Answer>;
  /** Whether the version that serves now treats rows apart. */
  isBatchable(): boolean;
  /** Throws where a request may no longer run, such as for another version than the one it wants. */
  check(version: number | undefined): void;
  onRun?(rows: number): void;
}

interface Request extends Waiting {
  inputs: Tensors;
  version: number | undefined;
  answer: PromiseWithResolvers<Answer>;
}

export class Batcher {
  readonly #parts: BatcherParts;
  #queue: Request[] = [];
  #runs = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(parts: BatcherParts) {
    this.#parts = parts;
  }

  /** Requests that wait. */
  get length(): number {
    return this.#queue.length;
  }

  /** Whether one more request would be refused. */
  get isFull(): boolean {
    return this.#queue.length >= this.#parts.options.queueMax;
  }

  /** Throws ServingError where the queue is full. */
  checkRoom(): void {
    if (!this.isFull) return;
    const { model, options } = this.#parts;
    throw new ServingError(
      'queue-full',
      `the queue of '${model}' is full, with ${options.queueMax} waiting: try again later, or serve it from more processes`,
    );
  }

  /** Runs the inputs, maybe with others. Throws ServingError where the queue is full or the request was given up. */
  async predict(inputs: Tensors, version: number | undefined, signal: AbortSignal): Promise<Answer> {
    if (this.#closed) throw new ServingError('not-ready', `'${this.#parts.model}' is no longer served here`);
    if (signal.aborted) throw givenUp();
    this.checkRoom();
    const rows = rowsOf(inputs);
    const request: Request = {
      inputs,
      version,
      rows: rows ?? 1,
      key: rows === undefined ? undefined : shapeKey(inputs),
      sinceMs: performance.now(),
      answer: Promise.withResolvers(),
    };
    this.#queue.push(request);
    const leave = (): void => this.#leave(request);
    signal.addEventListener('abort', leave, { once: true });
    this.#go();
    try {
      return await request.answer.promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  /** Those that wait are refused; those that run end. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    const gone = new ServingError('not-ready', `'${this.#parts.model}' is no longer served here`);
    for (const { answer } of this.#queue.splice(0)) answer.reject(gone);
  }

  #leave(request: Request): void {
    const index = this.#queue.indexOf(request);
    // One that runs already brings its answer, which nobody reads.
    if (index < 0) return;
    this.#queue.splice(index, 1);
    request.answer.reject(givenUp());
  }

  #go(): void {
    const { options, isBatchable } = this.#parts;
    clearTimeout(this.#timer);
    while (this.#runs < options.runsMax && this.#queue.length > 0) {
      const decision = isBatchable()
        ? nextBatch(this.#queue, options, performance.now())
        : { run: this.#queue.slice(0, 1) };
      if ('waitMs' in decision) {
        this.#timer = setTimeout(() => this.#go(), Math.ceil(decision.waitMs));
        return;
      }
      const taken = new Set(decision.run);
      this.#queue = this.#queue.filter((request) => !taken.has(request));
      this.#runs += 1;
      void this.#run(decision.run, () => {
        this.#runs -= 1;
        this.#go();
      });
    }
  }

  /** Ends every request, one way or the other. `onFree` hears when the runtime may have its next work: before these answers are written. */
  async #run(requests: readonly Request[], onFree: () => void): Promise<void> {
    const allowed = requests.filter((request) => this.#isAllowed(request));
    let answers: readonly Answer[];
    try {
      answers = await this.#predict(allowed);
    } catch (error) {
      // One of them may be to blame: each gets its own answer.
      if (allowed.length > 1) for (const request of allowed) await this.#run([request], () => {});
      else allowed[0]?.answer.reject(asServingError(error));
      return onFree();
    }
    onFree();
    allowed.forEach(({ answer }, index) => answer.resolve(answers[index]!));
  }

  #isAllowed({ version, answer }: Request): boolean {
    try {
      this.#parts.check(version);
      return true;
    } catch (error) {
      answer.reject(error);
      return false;
    }
  }

  /** An answer for each, from one run. */
  async #predict(requests: readonly Request[]): Promise<Answer[]> {
    if (requests.length === 0) return [];
    const inputs = joinRows(requests.map((request) => request.inputs));
    this.#parts.onRun?.(rowsOf(inputs) ?? 1);
    const { outputs, version } = await this.#parts.predict(inputs);
    if (requests.length === 1) return [{ outputs, version }];
    const parts = splitRows(
      outputs,
      requests.map(({ rows }) => rows),
    );
    if (parts === undefined) throw new Error('an output has not one row for each that went in');
    return parts.map((part) => ({ outputs: part, version }));
  }
}

const givenUp = (): ServingError => new ServingError('cancelled', 'the asker gave up');

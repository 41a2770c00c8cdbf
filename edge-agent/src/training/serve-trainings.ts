import type { Dataset } from '../data/dataset.ts';
import { byEngine, EngineError, asEngineError, isOutOfMemory, type Engine, type EngineName } from './engine.ts';
import type { CpuBudget, FromTrainer, ToTrainer } from './messages.ts';
import { pacer } from './pacer.ts';
import { statisticsOf } from './reports.ts';
import { LoadedGraphs, LocalTrainer, type Watched } from './train.ts';

/** Progress is told at most so often. */
const PROGRESS_EVERY_MS = 1_000;

/** What differs between a process of Node and a worker of a browser. */
export interface TrainingHost<Data> {
  load(data: Data): Promise<Dataset>;
  /** A text that changes with the data; without it, or where it gives none, they never do. */
  stateOf?(data: Data): Promise<string | undefined>;
  openEngine(engine: EngineName, budget: CpuBudget): Promise<Engine>;
  tell(message: FromTrainer): void;
}

interface Opened<Data> {
  data: Data;
  /** Of the data when they were read. */
  state: string | undefined;
  dataset: Dataset;
  engine: EngineName;
  budget: CpuBudget;
}

/** The inside of a process that trains: gives what answers its messages. */
export function serveTrainings<Data>({
  load,
  stateOf,
  openEngine,
  tell,
}: TrainingHost<Data>): (message: ToTrainer<Data>) => Promise<void> {
  let opened: Opened<Data> | undefined;
  let graphs: LoadedGraphs | undefined;
  let trainer: LocalTrainer | undefined;
  let getting: Promise<unknown> = Promise.resolve();
  /** What is under way, and whether it is to end after the step that it is at. */
  const isStopped = new Map<number, boolean>();
  return async (message) => {
    if (message.type === 'open') return open(message);
    const { id } = message;
    if (message.type === 'stop') {
      if (isStopped.has(id)) isStopped.set(id, true);
      return;
    }
    isStopped.set(id, false);
    try {
      tell(await answerTo(message));
    } catch (error) {
      const failed = error instanceof EngineError || !isOutOfMemory(error) ? (error as Error) : asEngineError(error);
      tell({ type: 'failed', id, reason: failed.message, isEngines: failed instanceof EngineError });
    } finally {
      isStopped.delete(id);
    }
  };

  async function answerTo(message: Extract<ToTrainer<Data>, { job: object }>): Promise<FromTrainer> {
    const { id } = message;
    if (message.type === 'train')
      return { type: 'trained', id, result: await (await ready()).train(message.job, watched(id)) };
    const { job } = message;
    if (job.work === 'evaluate')
      return { type: 'reported', id, result: await (await ready()).evaluate(job, watched(id)) };
    return { type: 'reported', id, result: statisticsOf((await examples()).dataset, job) };
  }

  async function open({ data, engine, budget }: Extract<ToTrainer<Data>, { type: 'open' }>): Promise<void> {
    try {
      opened = { engine, budget, ...(await read(data)) };
      tell({ type: 'opened', examples: opened.dataset.examples });
    } catch (error) {
      tell({ type: 'refused', reason: (error as Error).message });
    }
  }

  async function read(data: Data): Promise<Pick<Opened<Data>, 'data' | 'state' | 'dataset'>> {
    // Asked first: what comes while they are read is read again.
    const state = await stateOf?.(data);
    return { data, state, dataset: await load(data) };
  }

  /** The data as they are now: an app may have given more feedback since the last round. */
  function examples(): Promise<Opened<Data>> {
    return oneAtATime(current);
  }

  /** The trainer over them. The engine is opened with the first, so that one that cannot be loaded costs that and not the agent. */
  function ready(): Promise<LocalTrainer> {
    return oneAtATime(async () => {
      const { dataset, engine, budget } = await current();
      graphs ??= new LoadedGraphs(await byEngine(() => openEngine(engine, budget)));
      return (trainer ??= new LocalTrainer(dataset, graphs));
    });
  }

  /** So that data that changed are read once. */
  function oneAtATime<T>(get: () => Promise<T>): Promise<T> {
    const got = getting.then(get);
    getting = got.catch(() => {});
    return got;
  }

  async function current(): Promise<Opened<Data>> {
    if (opened === undefined) throw new Error('no data is open');
    const { data, state } = opened;
    if (state === undefined || (await stateOf?.(data)) === state) return opened;
    opened = { ...opened, ...(await read(data)) };
    await trainer?.release();
    trainer = undefined;
    return opened;
  }

  function watched(id: number): Watched {
    const rest = pacer(opened?.budget.busy ?? 1);
    let toldMs = -Infinity;
    const onStep = async (): Promise<void> => {
      if (isStopped.get(id) === true) throw new Error('training was stopped');
      const nowMs = performance.now();
      if (nowMs - toldMs >= PROGRESS_EVERY_MS) {
        toldMs = nowMs;
        tell({ type: 'progress', id });
      }
      await rest();
    };
    return { onStep };
  }
}

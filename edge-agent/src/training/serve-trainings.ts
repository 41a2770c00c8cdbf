import type { Dataset } from '../data/dataset.ts';
import { byEngine, EngineError, asEngineError, isOutOfMemory, type Engine, type EngineName } from './engine.ts';
import type { CpuBudget, FromTrainer, ToTrainer } from './messages.ts';
import { pacer } from './pacer.ts';
import { LoadedGraphs, LocalTrainer } from './train.ts';

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
  return async (message) => {
    if (message.type === 'open') return open(message);
    const { id, job } = message;
    try {
      const result = await (await ready()).train(job, { onStep: watched(id) });
      tell({ type: 'trained', id, result });
    } catch (error) {
      const failed = error instanceof EngineError || !isOutOfMemory(error) ? (error as Error) : asEngineError(error);
      tell({ type: 'failed', id, reason: failed.message, isEngines: failed instanceof EngineError });
    }
  };

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

  /** One at a time, so that data that changed are read once. */
  function ready(): Promise<LocalTrainer> {
    const got = getting.then(current);
    getting = got.catch(() => {});
    return got;
  }

  /**
   * The trainer over the data as they are now: an app may have given more feedback since the last round. The engine is
   * opened with the first training, so that one that cannot be loaded costs that and not the agent.
   */
  async function current(): Promise<LocalTrainer> {
    if (opened === undefined) throw new Error('no data is open');
    const { data, state, engine, budget } = opened;
    if (state !== undefined && (await stateOf?.(data)) !== state) {
      opened = { ...opened, ...(await read(data)) };
      await trainer?.release();
      trainer = undefined;
    }
    graphs ??= new LoadedGraphs(await byEngine(() => openEngine(engine, budget)));
    return (trainer ??= new LocalTrainer(opened.dataset, graphs));
  }

  function watched(id: number): () => Promise<void> {
    const rest = pacer(opened?.budget.busy ?? 1);
    let toldMs = -Infinity;
    return async () => {
      const nowMs = performance.now();
      if (nowMs - toldMs >= PROGRESS_EVERY_MS) {
        toldMs = nowMs;
        tell({ type: 'progress', id });
      }
      await rest();
    };
  }
}

import type { Dataset } from '../data/dataset.ts';
import { byEngine, EngineError, type Engine, type EngineName } from './engine.ts';
import type { CpuBudget, FromTrainer, ToTrainer } from './messages.ts';
import { pacer } from './pacer.ts';
import { statisticsOf } from './reports.ts';
import { LocalTrainer, type Watched } from './train.ts';

/** Progress is told at most so often. */
const PROGRESS_EVERY_MS = 1_000;

/** What differs between a process of Node and a worker of a browser. */
export interface TrainingHost<Data> {
  load(data: Data): Promise<Dataset>;
  openEngine(engine: EngineName, budget: CpuBudget): Promise<Engine>;
  tell(message: FromTrainer): void;
}

/** The inside of a process that trains: gives what answers its messages. */
export function serveTrainings<Data>({
  load,
  openEngine,
  tell,
}: TrainingHost<Data>): (message: ToTrainer<Data>) => Promise<void> {
  let opened: { dataset: Dataset; engine: EngineName; budget: CpuBudget } | undefined;
  let trainer: LocalTrainer | undefined;
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
      tell({ type: 'failed', id, reason: (error as Error).message, isEngines: error instanceof EngineError });
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
    return { type: 'reported', id, result: statisticsOf(examples(), job) };
  }

  function examples(): Dataset {
    if (opened === undefined) throw new Error('no data is open');
    return opened.dataset;
  }

  async function open({ data, engine, budget }: Extract<ToTrainer<Data>, { type: 'open' }>): Promise<void> {
    try {
      opened = { dataset: await load(data), engine, budget };
      tell({ type: 'opened', examples: opened.dataset.examples });
    } catch (error) {
      tell({ type: 'refused', reason: (error as Error).message });
    }
  }

  /** The engine is opened with the first training, so that one that cannot be loaded costs that and not the agent. */
  async function ready(): Promise<LocalTrainer> {
    if (opened === undefined) throw new Error('no data is open');
    const { dataset, engine, budget } = opened;
    return (trainer ??= new LocalTrainer(dataset, await byEngine(() => openEngine(engine, budget))));
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

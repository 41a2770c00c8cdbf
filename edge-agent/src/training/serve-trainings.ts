import type { Dataset } from '../data/dataset.ts';
import { byEngine, EngineError, type Engine, type EngineName } from './engine.ts';
import type { CpuBudget, FromTrainer, ToTrainer } from './messages.ts';
import { pacer } from './pacer.ts';
import { LocalTrainer } from './train.ts';

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
  return async (message) => {
    if (message.type === 'open') return open(message);
    const { id, job } = message;
    try {
      const result = await (await ready()).train(job, { onStep: watched(id) });
      tell({ type: 'trained', id, result });
    } catch (error) {
      tell({ type: 'failed', id, reason: (error as Error).message, isEngines: error instanceof EngineError });
    }
  };

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

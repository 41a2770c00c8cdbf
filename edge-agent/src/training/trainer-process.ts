// The process that trains: native code may crash or stall here without silencing the agent. It ends with its parent.
import { loadDataset } from '../data/load-dataset.ts';
import type { FromTrainer, ToTrainer } from './messages.ts';
import { Reporter } from './reports.ts';
import { OrtTrainer } from './train.ts';

const tell = (message: FromTrainer): void => void process.send?.(message);
let trainer: OrtTrainer | undefined;
let reporter: Reporter | undefined;
let running: { id: number; stop: AbortController } | undefined;

async function answer(message: ToTrainer): Promise<void> {
  if (message.type === 'open') {
    try {
      const data = await loadDataset(message.data);
      trainer = new OrtTrainer(data, message.on);
      reporter = new Reporter(data, message.on);
      tell({ type: 'opened', examples: data.examples });
    } catch (error) {
      tell({ type: 'refused', reason: (error as Error).message });
    }
    return;
  }
  if (message.type === 'stop') {
    if (running?.id === message.id) running.stop.abort();
    return;
  }
  try {
    if (trainer === undefined || reporter === undefined) throw new Error('no data is open');
    const stop = new AbortController();
    running = { id: message.id, stop };
    const { id } = message;
    if (message.type === 'report') {
      return tell({ type: 'reported', id, result: await reporter.report(message.job, stop.signal) });
    }
    tell({ type: 'trained', id, result: await trainer.train(message.job, stop.signal) });
  } catch (error) {
    tell({ type: 'failed', id: message.id, reason: (error as Error).message });
  }
}

// Ctrl-C reaches the whole group: the agent decides when this ends.
process.on('SIGINT', () => {});
process.on('message', (message: ToTrainer) => void answer(message));
process.on('disconnect', () => process.exit(0));

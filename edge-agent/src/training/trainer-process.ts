// The process that trains: native code may crash or stall here without silencing the agent. It ends with its parent.
import { dataState, loadDataset } from '../data/load-dataset.ts';
import { openEngine } from './engines/open.ts';
import type { ToTrainer } from './messages.ts';
import { serveTrainings } from './serve-trainings.ts';

const answer = serveTrainings<string>({
  load: loadDataset,
  stateOf: dataState,
  openEngine: (engine, { threads }) => openEngine(engine, { threads }),
  tell: (message) => void process.send?.(message),
});

// Ctrl-C reaches the whole group: the agent decides when this ends.
process.on('SIGINT', () => {});
// A message that there is no memory for ends it as the JavaScript engine ends it when it has none.
process.on('uncaughtException', (error: NodeJS.ErrnoException) => {
  console.error(error);
  process.exit(error.code === 'ERR_MEMORY_ALLOCATION_FAILED' ? 134 : 1);
});
process.on('message', (message: ToTrainer<string>) => void answer(message));
process.on('disconnect', () => process.exit(0));

import type { WorkerReply } from './messages.ts';
import { workerAt } from './worker-at.ts';
import type { StartWorker } from './worker-engine.ts';

/** Has a worker thread run a file that serves sessions: one beside `base`, by default one of this folder. */
export const startThread =
  (file: string, base?: string): StartWorker =>
  (onReply, onEnd) => {
    const worker = workerAt(file, base === undefined ? {} : { base });
    worker.on('message', (reply: WorkerReply) => onReply(reply));
    worker.on('error', (error) => onEnd(`the inference worker failed: ${error.message}`));
    worker.on('exit', () => onEnd('the inference worker ended'));
    return {
      post: (message, transfer) => worker.postMessage(message, transfer),
      gone: () => new Promise((resolve) => worker.once('exit', () => resolve())),
    };
  };

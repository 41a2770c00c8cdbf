import type { MakeInt8 } from './int8-forms.ts';
import { workerAt } from './worker-at.ts';

/** In a worker thread of Node. */
export const quantizedToInt8: MakeInt8 = (job) =>
  new Promise((resolve, reject) => {
    const worker = workerAt('quantize-worker', { workerData: job });
    worker.once('message', resolve).once('error', reject);
    worker.once('exit', () => reject(new Error('the quantizing worker ended without an answer')));
  });

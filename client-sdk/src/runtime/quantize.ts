import type { MakeForms } from './made-forms.ts';
import { workerAt } from './worker-at.ts';

/** In a worker thread of Node. */
export const makeForms: MakeForms = (job) =>
  new Promise((resolve, reject) => {
    const worker = workerAt('quantize-worker', { workerData: job });
    worker.once('message', resolve).once('error', reject);
    worker.once('exit', () => reject(new Error('the quantizing worker ended without an answer')));
  });

import type { QuantizeJob, QuantizeReply } from './quantize-worker.ts';
import { workerAt } from './worker-at.ts';

/** The int8 forms of a float32 model, or why there are none; the static one only where there are examples. */
export function quantizedToInt8(job: QuantizeJob): Promise<QuantizeReply[]> {
  return new Promise((resolve, reject) => {
    const worker = workerAt('quantize-worker', { workerData: job });
    worker.once('message', resolve).once('error', reject);
    worker.once('exit', () => reject(new Error('the quantizing worker ended without an answer')));
  });
}

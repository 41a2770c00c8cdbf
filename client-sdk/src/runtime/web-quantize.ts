import type { MakeForms, FormsReply } from './made-forms.ts';
import type { WebWorker } from './web-engine.ts';

export type FromQuantizer = { forms: FormsReply[] } | { error: string };

declare const Worker: new (url: URL, options: { type: 'module' }) => WebWorker;

/** In a worker of the page. */
export const makeForms: MakeForms = async (job) => {
  const worker = new Worker(new URL('./quantize-web-worker.js', import.meta.url), { type: 'module' });
  try {
    return await new Promise<FormsReply[]>((resolve, reject) => {
      worker.addEventListener('message', ({ data }) => {
        const reply = data as FromQuantizer;
        if ('forms' in reply) resolve(reply.forms);
        else reject(new Error(reply.error));
      });
      worker.addEventListener('error', ({ message }) =>
        reject(new Error(`the quantizing worker failed: ${message ?? 'its script could not be loaded'}`)),
      );
      worker.postMessage(job, []);
    });
  } finally {
    worker.terminate();
  }
};

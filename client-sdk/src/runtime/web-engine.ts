import type { WorkerReply } from './messages.ts';
import type { StartWorker } from './worker-engine.ts';
import { WorkerEngine } from './worker-engine.ts';

/** A worker of a page. */
export interface WebWorker {
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
  addEventListener(name: 'message', listener: (event: { data: unknown }) => void, options?: { once: boolean }): void;
  addEventListener(name: 'error', listener: (event: { message?: string }) => void): void;
  terminate(): void;
}

declare const Worker: new (url: URL, options: { type: 'module' }) => WebWorker;

/** ONNX Runtime Web in one worker of the page, started with the first model. */
export class WebEngine extends WorkerEngine {
  constructor(options: { threads?: number } = {}) {
    super('ort-web', startWebWorker, options);
  }
}

// Bundlers know this form, and make a file of the worker.
const startWebWorker = startPageWorker(
  () => new Worker(new URL('./ort-web-worker.js', import.meta.url), { type: 'module' }),
);

/** A worker that serves sessions. */
export function startPageWorker(open: () => WebWorker): StartWorker {
  return (onReply, onEnd) => {
    const worker = open();
    worker.addEventListener('message', ({ data }) => onReply(data as WorkerReply));
    worker.addEventListener('error', ({ message }) =>
      onEnd(`the inference worker failed: ${message ?? 'its script could not be loaded'}`),
    );
    return {
      post: (message, transfer) => worker.postMessage(message, transfer),
      gone: () =>
        new Promise((resolve) => {
          const end = (): void => {
            worker.terminate();
            resolve();
          };
          // The only answer that is still to come.
          worker.addEventListener('message', end, { once: true });
        }),
    };
  };
}

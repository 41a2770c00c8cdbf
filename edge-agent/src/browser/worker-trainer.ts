import type { Dataset } from '../data/dataset.ts';
import type { FromTrainer } from '../training/messages.ts';
import type { StartTrainer } from '../training/trainer.ts';

interface WebWorker {
  postMessage(message: unknown): void;
  addEventListener(name: 'message', listener: (event: { data: unknown }) => void): void;
  addEventListener(name: 'error', listener: (event: { message?: string }) => void): void;
  terminate(): void;
}

declare const Worker: new (url: URL, options: { type: 'module' }) => WebWorker;

/** Starts a worker of the page that trains: a step would hold up what the page draws. */
export const startTrainingWorker: StartTrainer<Dataset> = (onMessage, onEnd) => {
  // Bundlers know this form, and make a file of the worker.
  const worker = new Worker(new URL('./training-worker.js', import.meta.url), { type: 'module' });
  worker.addEventListener('message', ({ data }) => onMessage(data as FromTrainer));
  worker.addEventListener('error', ({ message }) =>
    onEnd(`the training worker failed: ${message ?? 'its script could not be loaded'}`),
  );
  return {
    post: (message) => worker.postMessage(message),
    end: () => {
      worker.terminate();
      return Promise.resolve();
    },
  };
};

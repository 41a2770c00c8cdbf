import { Worker, type WorkerOptions } from 'node:worker_threads';

/** Starts a file of this folder as a worker: its source where this is one, else what was built of it. */
export function workerAt(name: string, options: WorkerOptions = {}): Worker {
  const source = import.meta.url.endsWith('.ts');
  return new Worker(new URL(`./${name}.${source ? 'ts' : 'js'}`, import.meta.url), {
    ...options,
    execArgv: [...(source ? ['--conditions=@commonweight/source'] : []), '--disable-warning=ExperimentalWarning'],
  });
}

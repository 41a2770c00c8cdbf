import { Worker, type WorkerOptions } from 'node:worker_threads';

/** Starts a file beside `base`, by default one of this folder, as a worker: its source where this is one, else what was built of it. */
export function workerAt(
  name: string,
  { base = import.meta.url, ...options }: WorkerOptions & { base?: string } = {},
): Worker {
  const source = base.endsWith('.ts');
  return new Worker(new URL(`./${name}.${source ? 'ts' : 'js'}`, base), {
    ...options,
    execArgv: [...(source ? ['--conditions=@commonweight/source'] : []), '--disable-warning=ExperimentalWarning'],
  });
}

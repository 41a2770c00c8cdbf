import { Worker } from 'node:worker_threads';
import type { ModelNeeds, Range } from '@commonweight/core';
import type { VariantForm } from './forms.ts';

/** A version, and the forms that it is to have. */
export interface FormsJob {
  graph: Uint8Array;
  weights: Uint8Array;
  forms: readonly VariantForm[];
  /** Of the values that `int8-static` rounds. */
  ranges?: ReadonlyMap<string, Range>;
}

/** A form as an ONNX file and what that needs of a runtime, or why there is none. */
export type MadeForm = { name: VariantForm } & ({ onnx: Uint8Array; needs: ModelNeeds } | { refused: string });

/** Makes forms in a thread of its own: seconds of arithmetic would hold up the event loop. Throws what the worker failed of, or the signal's reason. */
export function makeForms(job: FormsJob, signal: AbortSignal): Promise<MadeForm[]> {
  signal.throwIfAborted();
  const isSource = import.meta.url.endsWith('.ts');
  const worker = new Worker(new URL(isSource ? './forms-worker.ts' : './forms-worker.js', import.meta.url), {
    workerData: job,
    execArgv: [...(isSource ? ['--conditions=@commonweight/source'] : []), '--disable-warning=ExperimentalWarning'],
  });
  const { promise, resolve, reject } = Promise.withResolvers<MadeForm[]>();
  const stop = (): void => void worker.terminate();
  signal.addEventListener('abort', stop, { once: true });
  worker.once('message', resolve);
  worker.once('error', reject);
  // After a message or an error this changes nothing.
  worker.once('exit', (code) => {
    signal.removeEventListener('abort', stop);
    reject(signal.aborted ? signal.reason : new Error(`the thread that makes forms ended with code ${code}`));
  });
  return promise;
}

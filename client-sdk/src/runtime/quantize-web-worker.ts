/** Makes forms of one model, away from what the page draws. */
import { env, InferenceSession, Tensor } from 'onnxruntime-web/wasm';
import { madeForms, type FormsJob } from './made-forms.ts';
import type { FromQuantizer } from './web-quantize.ts';
import { runExamplesWith } from './run-examples.ts';

interface WorkerScope {
  addEventListener(name: 'message', listener: (event: { data: FormsJob }) => void): void;
  postMessage(message: FromQuantizer): void;
}

const scope = globalThis as unknown as WorkerScope;
env.wasm.numThreads = 1;

const create = (onnx: Uint8Array): Promise<InferenceSession> =>
  InferenceSession.create(onnx, { executionProviders: ['wasm'], logSeverityLevel: 3 });

scope.addEventListener('message', ({ data }) => {
  madeForms(data, runExamplesWith({ create, Tensor })).then(
    (forms) => scope.postMessage({ forms }),
    (error: unknown) => scope.postMessage({ error: (error as Error).message }),
  );
});

/** Makes forms of one model in a thread of its own, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { madeForms, type FormsJob } from './made-forms.ts';
import { runExamplesWith } from './run-examples.ts';

const create = (onnx: Uint8Array): Promise<InferenceSession> =>
  InferenceSession.create(onnx, { intraOpNumThreads: 1, logSeverityLevel: 3 });
parentPort?.postMessage(await madeForms(workerData as FormsJob, runExamplesWith({ create, Tensor })));

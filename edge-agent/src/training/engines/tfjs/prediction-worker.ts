/** Owns the models that TensorFlow.js runs: a run would hold up the event loop of the app. */
import { parentPort } from 'node:worker_threads';
import { serveRequests, type WorkerRequest } from '@commonweight/client-sdk';
import { loadTfjs } from './load-tfjs.ts';
import { TfjsPrediction } from './tfjs-prediction.ts';

const port = parentPort;
if (port === null) throw new Error('this file is a worker');

const { tf, runsOn } = await loadTfjs();
const perform = serveRequests({
  name: runsOn,
  create: (model) => {
    if (typeof model === 'string') throw new Error('TensorFlow.js takes models as bytes');
    return Promise.resolve(new TfjsPrediction(tf, model));
  },
});

port.on('message', async ({ id, request }: { id: number; request: WorkerRequest }) => {
  const { reply, transfer } = await perform(id, request);
  port.postMessage(reply, transfer);
  if (request.kind === 'shut-down') setImmediate(() => port.close());
});

/** Owns the ONNX Runtime sessions of a process: a run would hold up the event loop of the app. */
import { parentPort } from 'node:worker_threads';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import type { WorkerReply, WorkerRequest } from './messages.ts';
import type { TypedTensor } from './tensor.ts';

const port = parentPort;
if (port === null) throw new Error('this file is a worker');
const sessions = new Map<number, InferenceSession>();
let sessionsMade = 0;

port.on('message', ({ id, request }: { id: number; request: WorkerRequest }) => {
  perform(request).then(
    (reply) => port.postMessage({ id, ...reply }, buffersOf(reply)),
    (error: unknown) => port.postMessage({ id, error: (error as Error).message } satisfies WorkerReply),
  );
});

type Reply = { session: number } | { outputs: Record<string, TypedTensor> } | { done: true };

async function perform(request: WorkerRequest): Promise<Reply> {
  switch (request.kind) {
    case 'load': {
      const options: InferenceSession.SessionOptions = {
        intraOpNumThreads: request.threads,
        interOpNumThreads: 1,
        // Only errors: a warning about a model belongs in the thrown error, not on the app's console.
        logSeverityLevel: 3,
      };
      const { model } = request;
      const session =
        typeof model === 'string'
          ? await InferenceSession.create(model, options)
          : await InferenceSession.create(model, options);
      sessionsMade += 1;
      sessions.set(sessionsMade, session);
      return { session: sessionsMade };
    }
    case 'run': {
      const session = sessions.get(request.session);
      if (session === undefined) throw new Error('the session was released');
      const feeds = Object.entries(request.feeds).map(([name, { type, data, dims }]) => [
        name,
        new OrtTensor(type, data as Float32Array, dims),
      ]);
      return { outputs: outputsOf(await session.run(Object.fromEntries(feeds) as Record<string, OrtTensor>)) };
    }
    case 'release': {
      const session = sessions.get(request.session);
      sessions.delete(request.session);
      await session?.release();
      return { done: true };
    }
    case 'shut-down': {
      for (const session of sessions.values()) await session.release();
      sessions.clear();
      // After this answer nothing holds the worker any more, so it ends by itself.
      setImmediate(() => port?.close());
      return { done: true };
    }
  }
}

function outputsOf(results: InferenceSession.OnnxValueMapType): Record<string, TypedTensor> {
  const outputs: Record<string, TypedTensor> = {};
  for (const [name, value] of Object.entries(results)) {
    const { type, data, dims } = value as OrtTensor;
    // A copy of its own: the runtime's buffer may not be transferred.
    outputs[name] = { type: type as TypedTensor['type'], data: (data as Float32Array).slice(), dims };
  }
  return outputs;
}

const buffersOf = (reply: Reply): ArrayBuffer[] =>
  'outputs' in reply ? Object.values(reply.outputs).map(({ data }) => data.buffer as ArrayBuffer) : [];

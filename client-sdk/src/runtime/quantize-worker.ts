/** Makes the int8 forms of one model, away from the event loop of the app, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import {
  calibrationGraph,
  Calibrator,
  QuantizeError,
  quantizeModel,
  readModel,
  writeModel,
  type ModelProto,
} from '@commonweight/core';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import type { Feeds } from './tensor.ts';
import type { Int8Name } from './variant.ts';

/** A float32 model, and the rows that ranges of activations are measured on. */
export interface QuantizeJob {
  onnx: Uint8Array;
  examples: readonly Feeds[];
}

/** A form, or why there is none. */
export type QuantizeReply = { name: Int8Name } & ({ onnx: Uint8Array } | { refused: string });

async function reply({ onnx, examples }: QuantizeJob): Promise<QuantizeReply[]> {
  const model = readModel(onnx);
  const forms = [await attempt('int8-dynamic', () => quantizeModel(model, 'dynamic-int8').model)];
  if (examples.length === 0) return forms;
  const calibrated = async (): Promise<ModelProto> =>
    quantizeModel(model, 'static-int8', { ranges: await rangesOf(model, examples) }).model;
  return [...forms, await attempt('int8-static', calibrated)];
}

async function attempt(name: Int8Name, make: () => ModelProto | Promise<ModelProto>): Promise<QuantizeReply> {
  try {
    return { name, onnx: writeModel(await make()) };
  } catch (error) {
    if (error instanceof QuantizeError) return { name, refused: error.message };
    throw error;
  }
}

/** What a run on each example says of the values between the layers. */
async function rangesOf(model: ModelProto, examples: readonly Feeds[]): ReturnType<typeof rangesIn> {
  const { model: graph, values } = calibrationGraph(model);
  const session = await InferenceSession.create(writeModel(graph), { intraOpNumThreads: 1, logSeverityLevel: 3 });
  try {
    return await rangesIn(session, new Calibrator(values), examples);
  } finally {
    await session.release();
  }
}

async function rangesIn(session: InferenceSession, calibrator: Calibrator, examples: readonly Feeds[]) {
  for (const feeds of examples) {
    const given = Object.entries(feeds).map(([name, { type, data, dims }]) => [
      name,
      new OrtTensor(type, data as Float32Array, dims),
    ]);
    const tensors = { ...Object.fromEntries(given), ...(await session.run(Object.fromEntries(given))) } as Record<
      string,
      OrtTensor
    >;
    const floats = Object.entries(tensors).flatMap(([name, { data }]): [string, Float32Array][] =>
      data instanceof Float32Array ? [[name, data]] : [],
    );
    calibrator.add(new Map(floats));
  }
  return calibrator.ranges();
}

parentPort?.postMessage(await reply(workerData as QuantizeJob));

/** The int8 forms of one model, made away from the event loop of the app. */
import {
  calibrationGraph,
  Calibrator,
  QuantizeError,
  quantizeModel,
  readModel,
  writeModel,
  type ModelProto,
} from '@commonweight/core';
import type { Feeds, TypedTensor } from './tensor.ts';
import type { Int8Name } from './variant.ts';

/** A float32 model, and the rows that ranges of activations are measured on. */
export interface QuantizeJob {
  onnx: Uint8Array;
  /** None: only forms that need no ranges. */
  examples: readonly Feeds[];
}

/** A form, or why there is none. */
export type QuantizeReply = { name: Int8Name; onnx: Uint8Array } | { name: Int8Name; refused: string };

/** Makes the forms of a model; the static one only where there are examples. */
export type MakeInt8 = (job: QuantizeJob) => Promise<QuantizeReply[]>;

/** Runs a model on examples in turn, and hears its outputs. */
export type RunExamples = (
  onnx: Uint8Array,
  examples: readonly Feeds[],
  onOutputs: (outputs: Readonly<Record<string, Pick<TypedTensor, 'data'>>>) => void,
) => Promise<void>;

export async function int8Forms({ onnx, examples }: QuantizeJob, runExamples: RunExamples): Promise<QuantizeReply[]> {
  const model = readModel(onnx);
  const forms = [await attempt('int8-dynamic', () => quantizeModel(model, 'dynamic-int8').model)];
  if (examples.length === 0) return forms;
  const calibrated = async (): Promise<ModelProto> => {
    const { model: graph, values } = calibrationGraph(model);
    const calibrator = new Calibrator(values);
    let given = 0;
    await runExamples(writeModel(graph), examples, (outputs) => {
      calibrator.add(floatsOf({ ...examples[given], ...outputs }));
      given += 1;
    });
    return quantizeModel(model, 'static-int8', { ranges: calibrator.ranges() }).model;
  };
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

const floatsOf = (tensors: Readonly<Record<string, { data: unknown }>>): Map<string, Float32Array> =>
  new Map(
    Object.entries(tensors).flatMap(([name, { data }]): [string, Float32Array][] =>
      data instanceof Float32Array ? [[name, data]] : [],
    ),
  );

/** Forms of one model, made away from the event loop of the app. */
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
import type { MadeName } from './variant.ts';

/** A float32 model, the forms that are wanted of it, and the rows that ranges of activations are measured on. */
export interface FormsJob {
  onnx: Uint8Array;
  names: readonly MadeName[];
  /** None: only forms that need no ranges. */
  examples: readonly Feeds[];
}

/** A form, or why there is none. */
export type FormsReply = { name: MadeName; onnx: Uint8Array } | { name: MadeName; refused: string };

/** Makes the forms of a model. */
export type MakeForms = (job: FormsJob) => Promise<FormsReply[]>;

/** Runs a model on examples in turn, and hears its outputs. */
export type RunExamples = (
  onnx: Uint8Array,
  examples: readonly Feeds[],
  onOutputs: (outputs: Readonly<Record<string, Pick<TypedTensor, 'data'>>>) => void,
) => Promise<void>;

export async function madeForms({ onnx, names, examples }: FormsJob, runExamples: RunExamples): Promise<FormsReply[]> {
  const model = readModel(onnx);
  const replies: FormsReply[] = [];
  for (const name of names) replies.push(await attempt(name, () => makers[name](model, examples, runExamples)));
  return replies;
}

type Maker = (model: ModelProto, examples: readonly Feeds[], runExamples: RunExamples) => Promise<ModelProto>;

const makers: Readonly<Record<MadeName, Maker>> = {
  'int8-dynamic': (model) => Promise.resolve(quantizeModel(model, 'dynamic-int8').model),
  'int8-static': calibratedForm,
  fp16: (model) => Promise.resolve(quantizeModel(model, 'fp16').model),
};

async function calibratedForm(
  model: ModelProto,
  examples: readonly Feeds[],
  runExamples: RunExamples,
): Promise<ModelProto> {
  const { model: graph, values } = calibrationGraph(model);
  const calibrator = new Calibrator(values);
  let given = 0;
  await runExamples(writeModel(graph), examples, (outputs) => {
    calibrator.add(floatsOf({ ...examples[given], ...outputs }));
    given += 1;
  });
  return quantizeModel(model, 'static-int8', { ranges: calibrator.ranges() }).model;
}

async function attempt(name: MadeName, make: () => Promise<ModelProto>): Promise<FormsReply> {
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

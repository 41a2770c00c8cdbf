import { create } from '@bufbuild/protobuf';
import { TensorProto_DataType, TensorProtoSchema } from './gen/onnx/onnx_pb.ts';
import type { ModelProto, TensorProto } from './gen/onnx/onnx_pb.ts';
import { OnnxError } from './errors.ts';
import { graphOf, writeModel } from './file.ts';
import { trainedPart } from './border.ts';
import { trainedNames } from './metadata.ts';
import { dimsOf, floatTensor, isEmptyShell, putFloats } from './tensor-data.ts';
import { toInference } from './training-mode.ts';
import { sizeOf } from '../tensor/shape.ts';

/** One trainable tensor and its place in the flat weight vector, in elements. */
export interface ParameterSpec {
  name: string;
  shape: readonly number[];
  offset: number;
  length: number;
}

/** Where each parameter lies in the one vector that a round exchanges. */
export interface WeightLayout {
  parameters: readonly ParameterSpec[];
  length: number;
}

export interface SplitModel {
  graph: Uint8Array;
  weights: Float32Array;
  layout: WeightLayout;
}

/** Separates what changes every round (weights) from what never does (graph); what is frozen stays in the graph. */
export function splitModel(model: ModelProto): SplitModel {
  const graph = toInference(graphOf(model));
  const isParameter = parameterTest(model);
  const emptied = withInitializers({ ...model, graph }, (tensor) => (isParameter(tensor) ? shellOf(tensor) : tensor));
  const layout = layoutOf(emptied);
  const parameters = graph.initializer.filter(isParameter);
  // Before room is made: a small file may declare any size.
  const shell = parameters.find(isEmptyShell);
  if (shell !== undefined) throw new OnnxError(`parameter '${shell.name}' has no values; join weights to it first`);
  const weights = new Float32Array(layout.length);
  parameters.forEach((tensor, index) => putFloats(tensor, weights, layout.parameters[index]!.offset));
  return { graph: writeModel(emptied), weights, layout };
}

/** Names and numbers of values of the tensors that are trained. Takes a whole model. */
export function parametersOf(model: ModelProto): { name: string; length: number }[] {
  const graph = toInference(graphOf(model));
  return graph.initializer
    .filter(parameterTest(model))
    .map((tensor) => ({ name: tensor.name, length: sizeOf(dimsOf(tensor)) }));
}

export function layoutOf(graph: ModelProto): WeightLayout {
  const parameters: ParameterSpec[] = [];
  let length = 0;
  for (const tensor of graphOf(graph).initializer) {
    if (tensor.dataType !== TensorProto_DataType.FLOAT || !isEmptyShell(tensor)) continue;
    const shape = dimsOf(tensor);
    const size = sizeOf(shape);
    parameters.push({ name: tensor.name, shape, offset: length, length: size });
    length += size;
  }
  return { parameters, length };
}

/** Puts weights back: the answer is a stock `.onnx` file that any runtime loads. */
export function joinModel(graph: ModelProto, weights: Float32Array): Uint8Array {
  const layout = layoutOf(graph);
  if (layout.length !== weights.length) {
    throw new OnnxError(
      `the graph has ${layout.length} weights and ${weights.length} were given; use weights of this model`,
    );
  }
  const specs = new Map(layout.parameters.map((spec) => [spec.name, spec]));
  const filled = withInitializers(graph, (tensor) => {
    const spec = specs.get(tensor.name);
    if (spec === undefined) return tensor;
    return floatTensor(tensor.name, spec.shape, weights.subarray(spec.offset, spec.offset + spec.length));
  });
  return writeModel(filled);
}

// Float inputs that hold settings or running statistics, not weights: [operator, input positions].
const settingInputs: Readonly<Record<string, readonly number[]>> = {
  Resize: [1, 2],
  Upsample: [1],
  BatchNormalization: [3, 4],
  QuantizeLinear: [1],
  DequantizeLinear: [1],
  Clip: [1, 2],
  Pad: [2],
  Dropout: [1],
  OneHot: [2],
};

function parameterTest(model: ModelProto): (tensor: TensorProto) => boolean {
  // What stands in front of the trained part has numbers of its own, such as means.
  const graph = toInference(graphOf(trainedPart(model)));
  const trained = trainedNames(model);
  const weightInputs = new Set(
    graph.node.flatMap((node) => node.input.filter((_, position) => !settingInputs[node.opType]?.includes(position))),
  );
  return (tensor) =>
    tensor.dataType === TensorProto_DataType.FLOAT &&
    tensor.dims.length > 0 &&
    sizeOf(dimsOf(tensor)) > 0 &&
    weightInputs.has(tensor.name) &&
    (trained === undefined || trained.includes(tensor.name));
}

function shellOf({ name, dims, dataType, docString }: TensorProto): TensorProto {
  return create(TensorProtoSchema, { name, dims, dataType, docString });
}

function withInitializers(model: ModelProto, change: (tensor: TensorProto) => TensorProto): ModelProto {
  const graph = graphOf(model);
  return { ...model, graph: { ...graph, initializer: graph.initializer.map(change) } };
}

import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { findAttribute, intAttribute } from '../onnx/nodes.ts';

const { BOOL, FLOAT, INT32, INT64 } = TensorProto_DataType;

const integers = ['Shape', 'Size', 'NonZero', 'ArgMax', 'ArgMin', 'NonMaxSuppression', 'SequenceLength'];
const truths = [
  'Equal',
  'Greater',
  'GreaterOrEqual',
  'Less',
  'LessOrEqual',
  'And',
  'Or',
  'Not',
  'Xor',
  'IsNaN',
  'IsInf',
];

/** Operators whose float output is of the type that an attribute of this name says, float32 where there is none. */
const typedBy: Readonly<Record<string, string>> = {
  Cast: 'to',
  RandomNormal: 'dtype',
  RandomUniform: 'dtype',
  SequenceEmpty: 'dtype',
  BlackmanWindow: 'output_datatype',
  HammingWindow: 'output_datatype',
  HannWindow: 'output_datatype',
  MelWeightMatrix: 'output_datatype',
};

/**
 * The element type of every value, as far as the operators tell; a standard operator keeps that of its first input. A sequence
 * has that of its tensors.
 */
export function elementTypes(graph: GraphProto): Map<string, number> {
  const types = new Map<string, number>();
  for (const { name, type } of [...graph.valueInfo, ...graph.input, ...graph.output]) {
    if (type?.value.case === 'tensorType') types.set(name, type.value.value.elemType);
  }
  for (const { name, dataType } of graph.initializer) types.set(name, dataType);
  for (const node of graph.node) {
    node.output.forEach((name, position) => {
      if (name !== '' && !types.has(name)) types.set(name, outputType(node, position, types));
    });
  }
  return types;
}

function outputType(node: NodeProto, position: number, types: ReadonlyMap<string, number>): number {
  const { opType, input } = node;
  const typeOf = (index: number): number => types.get(input[index] ?? '') ?? 0;
  if (integers.includes(opType)) return INT64;
  if (truths.includes(opType)) return BOOL;
  const typing = typedBy[opType];
  if (typing !== undefined) return intAttribute(node, typing, FLOAT);
  if (opType === 'CastLike') return typeOf(1);
  if (opType === 'Multinomial') return intAttribute(node, 'dtype', INT32);
  if (opType === 'TfIdfVectorizer') return FLOAT;
  if (opType === 'ConstantOfShape') return findAttribute(node, 'value')?.t?.dataType ?? FLOAT;
  if (opType === 'Where') return typeOf(1);
  if (opType === 'OneHot') return typeOf(2);
  if (position > 0 && ['MaxPool', 'TopK', 'Unique'].includes(opType)) return INT64;
  if (position > 0 && opType === 'Dropout') return BOOL;
  if (/^(?:Bernoulli|EyeLike|Random\w+Like)$/.test(opType)) return intAttribute(node, 'dtype', typeOf(0));
  return typeOf(0);
}

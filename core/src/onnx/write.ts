import { create, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { GraphProtoSchema, ModelProtoSchema, TensorProtoSchema } from './gen/onnx/onnx_pb.ts';
import type { GraphProto, ModelProto, TensorProto } from './gen/onnx/onnx_pb.ts';

/** Bytes of numbers from which on a copy is worth sparing. */
const LARGE = 4096;

/**
 * A model as the bytes of a `.onnx` file: those that any writer of protobuf makes that keeps fields in the order of their numbers. The weights are
 * copied once, into the file; the library by itself copies them once more for each message around them, and keeps all copies until the last is made.
 */
export function writeModel(model: ModelProto): Uint8Array {
  const { graph } = model;
  if (graph === undefined) return toBinary(ModelProtoSchema, model);
  const parts = within(ModelProtoSchema, model, 'graph', nested(ModelProtoSchema, 'graph', partsOfGraph(graph)));
  const bytes = new Uint8Array(lengthOf(parts));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function partsOfGraph(graph: GraphProto): Uint8Array[] {
  const tensors = graph.initializer.flatMap((tensor) => nested(GraphProtoSchema, 'initializer', partsOfTensor(tensor)));
  return within(GraphProtoSchema, graph, 'initializer', tensors);
}

function partsOfTensor(tensor: TensorProto): Uint8Array[] {
  const { rawData } = tensor;
  if (rawData.length < LARGE) return [toBinary(TensorProtoSchema, tensor)];
  return within(TensorProtoSchema, tensor, 'rawData', nested(TensorProtoSchema, 'rawData', [rawData]));
}

/** A message with these parts in the place of one of its fields. What is not known of it comes last, as the library has it. */
function within<Desc extends DescMessage>(
  schema: Desc,
  message: MessageShape<Desc>,
  name: keyof MessageShape<Desc> & string,
  parts: readonly Uint8Array[],
): Uint8Array[] {
  const place = numberOf(schema, name);
  const fields = message as unknown as Record<string, unknown>;
  const some = (isTaken: (number: number) => boolean): Record<string, unknown> =>
    Object.fromEntries(
      schema.fields.flatMap(({ number, localName }) => (isTaken(number) ? [[localName, fields[localName]]] : [])),
    );
  const partOf = (values: Record<string, unknown>): Uint8Array =>
    toBinary(schema, { ...create(schema), ...values } as MessageShape<Desc>);
  const last = { ...some((number) => number > place), $unknown: message.$unknown };
  return [partOf(some((number) => number < place)), ...parts, partOf(last)];
}

/** The parts as one field of a message, behind its tag and length. */
function nested<Desc extends DescMessage>(
  schema: Desc,
  name: keyof MessageShape<Desc> & string,
  parts: readonly Uint8Array[],
): Uint8Array[] {
  const tag = new BinaryWriter().tag(numberOf(schema, name), WireType.LengthDelimited);
  return [tag.uint32(lengthOf(parts)).finish(), ...parts];
}

const numberOf = (schema: DescMessage, name: string): number => schema.field[name]!.number;

const lengthOf = (parts: readonly Uint8Array[]): number => parts.reduce((sum, { length }) => sum + length, 0);

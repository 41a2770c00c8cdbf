import { create } from '@bufbuild/protobuf';
import { getTextEncoding } from '@bufbuild/protobuf/wire';
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProto_DataType,
  ValueInfoProtoSchema,
} from './gen/onnx/onnx_pb.ts';
import type { AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto } from './gen/onnx/onnx_pb.ts';

/** ONNX knows floats from integers by declaration, so a float attribute is written `{ float: 0.5 }`. */
export type AttributeValue = number | readonly number[] | string | { float: number } | { strings: readonly string[] };
export type Attributes = Readonly<Record<string, AttributeValue>>;

export function makeNode(
  opType: string,
  input: readonly string[],
  output: readonly string[],
  attributes: Attributes = {},
  name: string = output[0] ?? opType,
): NodeProto {
  const attribute = Object.entries(attributes).map(([key, value]) => makeAttribute(key, value));
  return create(NodeProtoSchema, { opType, name, input: [...input], output: [...output], attribute });
}

/** Describes a tensor that enters or leaves a graph; a string dimension is symbolic. */
export function makeValue(
  name: string,
  dims: readonly (number | string)[],
  elemType: number = TensorProto_DataType.FLOAT,
): ValueInfoProto {
  const dim = dims.map((size) => ({
    value:
      typeof size === 'string'
        ? { case: 'dimParam' as const, value: size }
        : { case: 'dimValue' as const, value: BigInt(size) },
  }));
  return create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: 'tensorType', value: { elemType, shape: { dim } } } },
  });
}

/** The operator set of every graph that Commonweight writes. */
export const opsetVersion = 17;

export function makeModel(graph: {
  name: string;
  node: NodeProto[];
  initializer: TensorProto[];
  input: ValueInfoProto[];
  output: ValueInfoProto[];
  /** Of operators that only some runtime knows. */
  domains?: readonly string[];
}): ModelProto {
  const { domains = [], ...parts } = graph;
  const others = domains.filter((domain) => domain !== '').map((domain) => ({ domain, version: 1n }));
  return create(ModelProtoSchema, {
    irVersion: 8n,
    producerName: 'commonweight',
    opsetImport: [{ domain: '', version: BigInt(opsetVersion) }, ...others],
    graph: parts,
  });
}

export function intAttribute(node: NodeProto, name: string, fallback: number): number {
  const found = findAttribute(node, name);
  return found === undefined ? fallback : Number(found.i);
}

export function floatAttribute(node: NodeProto, name: string, fallback: number): number {
  return findAttribute(node, name)?.f ?? fallback;
}

export function intsAttribute(node: NodeProto, name: string): number[] | undefined {
  return findAttribute(node, name)?.ints.map(Number);
}

export function stringAttribute(node: NodeProto, name: string, fallback: string): string {
  const found = findAttribute(node, name);
  return found === undefined ? fallback : String.fromCharCode(...found.s);
}

export function findAttribute(node: NodeProto, name: string): AttributeProto | undefined {
  return node.attribute.find((attribute) => attribute.name === name);
}

const utf8 = (text: string): Uint8Array<ArrayBuffer> => getTextEncoding().encodeUtf8(text);

function makeAttribute(name: string, value: AttributeValue): AttributeProto {
  const type = AttributeProto_AttributeType;
  if (typeof value === 'number') return create(AttributeProtoSchema, { name, type: type.INT, i: BigInt(value) });
  if (typeof value === 'string') {
    return create(AttributeProtoSchema, { name, type: type.STRING, s: utf8(value) });
  }
  if ('strings' in value) {
    return create(AttributeProtoSchema, { name, type: type.STRINGS, strings: value.strings.map(utf8) });
  }
  if ('float' in value) return create(AttributeProtoSchema, { name, type: type.FLOAT, f: value.float });
  return create(AttributeProtoSchema, { name, type: type.INTS, ints: value.map(BigInt) });
}

import { create } from '@bufbuild/protobuf';
import { OnnxError } from '../onnx/errors.ts';
import { graphOf, opsetOf } from '../onnx/file.ts';
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  OperatorSetIdProtoSchema,
} from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { findAttribute, intsAttribute } from '../onnx/nodes.ts';
import { int64Tensor } from '../onnx/tensor-data.ts';
import { QuantizeError } from '../quantize/errors.ts';
import { raiseOpset } from '../quantize/raise-opset.ts';

/** Two models in the same operator sets, so that their nodes may stand in one graph: the older is written as the newer has it. */
export function alignOpsets(a: ModelProto, b: ModelProto): [ModelProto, ModelProto] {
  const [first, second] = [at13(a), at13(b)];
  const version = Math.max(opsetOf(first), opsetOf(second));
  const opsetImport = together(first, second, version);
  const irVersion = first.irVersion > second.irVersion ? first.irVersion : second.irVersion;
  return [
    { ...raisedTo(first, version), opsetImport, irVersion },
    { ...raisedTo(second, version), opsetImport, irVersion },
  ];
}

function at13(model: ModelProto): ModelProto {
  // Of a graph without any standard operator there is nothing to raise.
  if (opsetOf(model) === 0) return model;
  try {
    return raiseOpset(model);
  } catch (cause) {
    if (cause instanceof QuantizeError) throw new OnnxError(cause.message, { cause });
    throw cause;
  }
}

const isStandard = ({ domain }: { domain: string }): boolean => domain === '' || domain === 'ai.onnx';

function together(a: ModelProto, b: ModelProto, version: number): OperatorSetIdProto[] {
  const others = new Map<string, bigint>();
  for (const { domain, version: own } of [...a.opsetImport, ...b.opsetImport]) {
    if (isStandard({ domain })) continue;
    const known = others.get(domain);
    if (known !== undefined && known !== own) {
      throw new OnnxError(`one file uses ${domain} ${known} and the other ${own}; export both for the same`);
    }
    others.set(domain, own);
  }
  return [
    create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(version) }),
    ...[...others].map(([domain, own]) => create(OperatorSetIdProtoSchema, { domain, version: own })),
  ];
}

interface Site {
  node: NodeProto;
  constant(name: string, values: readonly number[]): string;
}

interface Change {
  /** The operator set that the change came with. */
  since: number;
  rewrite(site: Site): NodeProto;
}

/** Axes of a reduction became an input. */
const axesBecomeInput: Change = {
  since: 18,
  rewrite: ({ node, constant }) => {
    const axes = intsAttribute(node, 'axes');
    if (axes === undefined) return node;
    const attribute = node.attribute.filter(({ name }) => name !== 'axes');
    return { ...node, attribute, input: [node.input[0]!, constant(`${node.output[0]}/axes`, axes)] };
  },
};

/** What of the operators that exporters write changed its meaning between 13 and the newest. */
const changes: Readonly<Record<string, Change>> = {
  ...Object.fromEntries(
    ['L1', 'L2', 'LogSum', 'LogSumExp', 'Max', 'Mean', 'Min', 'Prod', 'SumSquare'].map((name) => [
      `Reduce${name}`,
      axesBecomeInput,
    ]),
  ),
  Split: {
    since: 18,
    rewrite: ({ node }) => {
      if ((node.input[1] ?? '') !== '' || findAttribute(node, 'num_outputs') !== undefined) return node;
      const count = create(AttributeProtoSchema, {
        name: 'num_outputs',
        type: AttributeProto_AttributeType.INT,
        i: BigInt(node.output.length),
      });
      return { ...node, attribute: [...node.attribute, count] };
    },
  },
  BatchNormalization: {
    since: 14,
    rewrite: ({ node }) => (node.output.filter((name) => name !== '').length > 1 ? refused(node, 14) : node),
  },
  // From 21 on scale and bias are one number a channel, and no longer one a group.
  GroupNormalization: { since: 21, rewrite: ({ node }) => refused(node, 21) },
};

function refused({ name, opType }: NodeProto, since: number): never {
  throw new OnnxError(
    `node '${name}' (${opType}) means something else from operator set ${since} on; export both files for the same operator set`,
  );
}

function raisedTo(model: ModelProto, version: number): ModelProto {
  const from = opsetOf(model);
  return from >= version || from === 0 ? model : { ...model, graph: raisedGraph(graphOf(model), from, version) };
}

function raisedGraph(graph: GraphProto, from: number, to: number): GraphProto {
  const added: TensorProto[] = [];
  const constant = (name: string, values: readonly number[]): string => {
    added.push(int64Tensor(name, values));
    return name;
  };
  const node = graph.node.map((one) => {
    const change = isStandard(one) && Object.hasOwn(changes, one.opType) ? changes[one.opType] : undefined;
    const inner = withinOf(one, from, to);
    return change !== undefined && from < change.since && change.since <= to
      ? change.rewrite({ node: inner, constant })
      : inner;
  });
  return { ...graph, node, initializer: [...graph.initializer, ...added] };
}

/** The node with the graphs inside of it raised. */
function withinOf(node: NodeProto, from: number, to: number): NodeProto {
  if (!node.attribute.some(({ g, graphs }) => g !== undefined || graphs.length > 0)) return node;
  const attribute = node.attribute.map((one) => ({
    ...one,
    ...(one.g === undefined ? {} : { g: raisedGraph(one.g, from, to) }),
    graphs: one.graphs.map((graph) => raisedGraph(graph, from, to)),
  }));
  return { ...node, attribute };
}

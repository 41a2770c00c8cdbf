import { contractOf, elemTypeOf } from './contract.ts';
import type { TensorSpec } from './contract.ts';
import { OnnxError } from './errors.ts';
import { graphOf } from './file.ts';
import type { ModelProto, NodeProto, ValueInfoProto } from './gen/onnx/onnx_pb.ts';
import { noteOf, withNote } from './metadata.ts';
import { makeValue } from './nodes.ts';

const key = 'commonweight.preprocess';

/** What a model's note says of the graph in front of it. */
interface Border {
  /** Values that go from the graph in front to the trained one, as the latter takes them. */
  values: readonly TensorSpec[];
}

/** Nodes, tensors and values of the graph in front are named so. */
export const FRONT = 'preprocess/';

const isInFront = ({ name }: NodeProto): boolean => name.startsWith(FRONT);

export function borderOf(model: ModelProto): Border | undefined {
  const note = noteOf(model, key);
  if (note === undefined) return undefined;
  const values = (note as { values?: unknown }).values;
  const isSpec = (value: unknown): boolean => {
    const { name, dtype, dims } = (value ?? {}) as Partial<TensorSpec>;
    return typeof name === 'string' && typeof dtype === 'string' && Array.isArray(dims) && dims.every(Number.isInteger);
  };
  if (Array.isArray(values) && values.length > 0 && values.every(isSpec)) return { values: values as TensorSpec[] };
  throw new OnnxError(`the model's note '${key}' says nothing of a border; compose the model again`);
}

export const withBorder = (model: ModelProto, border: Border): ModelProto => withNote(model, key, border);

/** The model without what stands in front of it: no parameter lies there, so that training does without its gradient. */
export function trainedPart(model: ModelProto): ModelProto {
  const border = borderOf(model);
  if (border === undefined) return model;
  const graph = graphOf(model);
  const node = graph.node.filter((one) => !isInFront(one));
  const read = new Set(node.flatMap(({ input }) => input));
  const past = graph.input.filter(({ name }) => read.has(name));
  const part = { ...graph, node, input: [...border.values.map(inputOf), ...past] };
  return withNote({ ...model, graph: part }, key, undefined);
}

/** What stands in front of a model, as a model of its own, and what goes in and comes out. */
export interface FrontPart {
  model: ModelProto;
  inputs: readonly TensorSpec[];
  outputs: readonly TensorSpec[];
}

/** Undefined where nothing stands in front of the model. */
export function frontPart(model: ModelProto): FrontPart | undefined {
  const border = borderOf(model);
  if (border === undefined) return undefined;
  const graph = graphOf(model);
  const node = graph.node.filter(isInFront);
  const read = new Set(node.flatMap(readBy));
  const front: ModelProto = {
    ...model,
    metadataProps: [],
    graph: {
      ...graph,
      node,
      initializer: graph.initializer.filter(({ name }) => read.has(name)),
      input: graph.input.filter(({ name }) => read.has(name)),
      output: border.values.map(inputOf),
      valueInfo: [],
    },
  };
  return { model: front, inputs: contractOf(front).inputs, outputs: border.values };
}

/** All that a node reads, graphs inside of it too. */
export function readBy(node: NodeProto): string[] {
  const inner = node.attribute.flatMap(({ g, graphs }) => [...(g === undefined ? [] : [g]), ...graphs]);
  return [
    ...node.input,
    ...inner.flatMap((graph) => [...graph.node.flatMap(readBy), ...graph.output.map(({ name }) => name)]),
  ];
}

function inputOf({ name, dtype, dims, symbols }: TensorSpec): ValueInfoProto {
  const sizes = dims.map((size, axis) =>
    size >= 0 ? size : symbols?.[axis] || (axis === 0 ? 'batch' : `${name}/${axis}`),
  );
  return makeValue(name, sizes, elemTypeOf(dtype));
}

import { contractOf } from '../onnx/contract.ts';
import type { TensorSpec } from '../onnx/contract.ts';
import { OnnxError } from '../onnx/errors.ts';
import { graphOf } from '../onnx/file.ts';
import type { GraphProto, ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { alignOpsets } from './align-opsets.ts';
import { borderOf, FRONT, withBorder } from '../onnx/border.ts';

/**
 * A model with another graph in front of it, in one file: what the front gives goes into the model's inputs of the same names, or into
 * its one input. Names of the front are its own from then on, and a note says where the border is. Throws OnnxError where they do not fit.
 */
export function withPreprocess(model: ModelProto, front: ModelProto): ModelProto {
  if (borderOf(model) !== undefined)
    throw new OnnxError('the model has a preprocessing graph already; compose from the file without one');
  const [behind, before] = alignOpsets(model, front);
  const joints = jointsOf(contractOf(model).inputs, contractOf(front).outputs);
  if (front.$unknown?.some(({ no }) => no === FUNCTIONS) === true) {
    throw new OnnxError('the preprocessing graph defines functions of its own; export it with them inlined');
  }
  const inner = prefixed(graphOf(before), joints);
  const taken = new Set(contractOf(front).inputs.map(({ name }) => name));
  const own = trained(graphOf(behind), joints, taken);
  const initialized = new Set([...inner.initializer, ...own.initializer].map(({ name }) => name));
  const composed: ModelProto = {
    ...behind,
    graph: {
      ...own,
      node: [...inner.node, ...own.node],
      initializer: [...inner.initializer, ...own.initializer],
      input: [
        ...graphOf(before).input.filter(({ name }) => taken.has(name)),
        // Before IR version 4 every initializer was listed as an input too.
        ...own.input.filter(({ name }) => !initialized.has(name) && !joints.some(({ input }) => input.name === name)),
      ],
      valueInfo: [...inner.valueInfo, ...own.valueInfo],
    },
  };
  const values = joints.map(({ input, border }) => ({ ...input, name: border }));
  return withBorder(composed, { values });
}

/** The field of a model's local functions, which this reader leaves alone. */
const FUNCTIONS = 25;

/** One output of the front and the input that it goes into. */
interface Joint {
  output: TensorSpec;
  input: TensorSpec;
  /** The value's name in the composed graph. */
  border: string;
}

function jointsOf(inputs: readonly TensorSpec[], outputs: readonly TensorSpec[]): Joint[] {
  const list = (specs: readonly TensorSpec[]): string => specs.map(show).join(', ');
  const isOne = inputs.length === 1 && outputs.length === 1;
  const joints = outputs.map((output): Joint => {
    const input = isOne ? inputs[0]! : inputs.find(({ name }) => name === output.name);
    if (input === undefined) {
      throw new OnnxError(
        `output '${output.name}' of the preprocessing graph is no input of the model, which has ${list(inputs)}; give it the name of one`,
      );
    }
    const fits =
      output.dtype === input.dtype &&
      output.dims.length === input.dims.length &&
      output.dims.every((size, axis) => size < 0 || input.dims[axis]! < 0 || size === input.dims[axis]);
    if (!fits)
      throw new OnnxError(
        `the preprocessing graph gives ${show(output)}, and the model takes ${show(input)}; make the two alike`,
      );
    return { output, input, border: `${input.name}/preprocessed` };
  });
  const fixed = [...outputs, ...inputs].find(({ dims }) => (dims[0] ?? 0) >= 0);
  if (fixed !== undefined)
    throw new OnnxError(`${show(fixed)} has a fixed batch; export both graphs with the batch open`);
  return joints;
}

const show = ({ name, dtype, dims }: TensorSpec): string =>
  `'${name}' ${dtype}[${dims.map((size) => (size < 0 ? '?' : size)).join(', ')}]`;

/** The front with names of its own for all but its inputs; what it gives has the names of the border. */
function prefixed(graph: GraphProto, joints: readonly Joint[]): GraphProto {
  const inputs = new Set(graph.input.map(({ name }) => name));
  for (const { name } of graph.initializer) inputs.delete(name);
  const borders = new Map(joints.map(({ output, border }) => [output.name, border]));
  const rename = (name: string): string =>
    name === '' || inputs.has(name) ? name : (borders.get(name) ?? `${FRONT}${name}`);
  const renamed = renamedGraph(graph, rename);
  const node = renamed.node.map((one, index) => ({ ...one, name: `${FRONT}${one.name === '' ? index : one.name}` }));
  // An output that is an input as it came has no node that could give it another name.
  const passed = joints.find(({ output }) => inputs.has(output.name));
  if (passed !== undefined) {
    throw new OnnxError(
      `output '${passed.output.name}' of the preprocessing graph is its input; put an Identity in between`,
    );
  }
  return { ...renamed, node };
}

/** The model, reading what the front gives; names of its own that the front's inputs have are changed. */
function trained(graph: GraphProto, joints: readonly Joint[], taken: ReadonlySet<string>): GraphProto {
  const borders = new Map(joints.map(({ input, border }) => [input.name, border]));
  const fixed = [...graph.output, ...graph.initializer, ...graph.input].find(
    ({ name }) => taken.has(name) && !borders.has(name),
  );
  if (fixed !== undefined) {
    throw new OnnxError(
      `'${fixed.name}' is an input of the preprocessing graph and a name in the model; rename the input`,
    );
  }
  return renamedGraph(graph, (name) => borders.get(name) ?? (taken.has(name) ? `${name}/own` : name));
}

/** Values and tensors of a graph under other names, in graphs inside of nodes too; inputs and outputs keep theirs. */
function renamedGraph(graph: GraphProto, rename: (name: string) => string): GraphProto {
  return {
    ...graph,
    node: graph.node.map((node) => renamedNode(node, rename)),
    initializer: graph.initializer.map((tensor) => ({ ...tensor, name: rename(tensor.name) })),
    valueInfo: graph.valueInfo.map((value) => ({ ...value, name: rename(value.name) })),
  };
}

function renamedNode(node: NodeProto, rename: (name: string) => string): NodeProto {
  const inside = (graph: GraphProto): GraphProto => {
    const inner = renamedGraph(graph, rename);
    const renamed = <T extends { name: string }>(values: readonly T[]): T[] =>
      values.map((value) => ({ ...value, name: rename(value.name) }));
    return { ...inner, input: renamed(graph.input), output: renamed(graph.output) };
  };
  return {
    ...node,
    input: node.input.map(rename),
    output: node.output.map(rename),
    attribute: node.attribute.map((attribute) => ({
      ...attribute,
      ...(attribute.g === undefined ? {} : { g: inside(attribute.g) }),
      graphs: attribute.graphs.map(inside),
    })),
  };
}

import { graphOf } from '../onnx/file.ts';
import type { GraphProto, ModelProto, NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { findAttribute } from '../onnx/nodes.ts';
import { floatTensor, int64Tensor } from '../onnx/tensor-data.ts';
import { foldBatchNorms } from './fold-batch-norm.ts';
import { foldConstants } from './fold-constants.ts';
import { GraphView, isStandard } from './graph-view.ts';
import { requireUnquantized } from './quantized-operators.ts';
import { raiseOpset } from './raise-opset.ts';

/** Newest file layout that every onnxruntime of the last years reads; from 4 on initializers are constants. */
const IR_VERSION_MIN = 8n;

export interface Prepared {
  model: ModelProto;
  /** How many nodes were computed once and for all. */
  folded: number;
}

/**
 * The model in the form that the quantizers expect: constants are initializers, and so is what follows from them and from known
 * shapes alone; batch norms are folded into their convolutions, and nothing is left that no output needs. It computes what it did
 * before. The given model stays as it is.
 */
export function prepare(model: ModelProto): Prepared {
  requireUnquantized(graphOf(model));
  const raised = raiseOpset(model);
  const { graph, folded } = foldConstants(removePassThrough(promoteConstants(graphOf(raised))));
  const irVersion = raised.irVersion < IR_VERSION_MIN ? IR_VERSION_MIN : raised.irVersion;
  return { model: { ...raised, irVersion, graph: removeDead(foldBatchNorms(graph)) }, folded };
}

/** Constant nodes become initializers, and initializers are no inputs. */
export function promoteConstants(graph: GraphProto): GraphProto {
  const promoted = graph.node.flatMap((node) => {
    const [name] = node.output;
    if (!isStandard(node, 'Constant') || name === undefined) return [];
    const tensor = constantOf(node, name);
    return tensor === undefined ? [] : [{ node, tensor }];
  });
  const gone = new Set(promoted.map(({ node }) => node));
  const initializer = [...graph.initializer, ...promoted.map(({ tensor }) => tensor)];
  const names = new Set(initializer.map(({ name }) => name));
  return {
    ...graph,
    initializer,
    node: graph.node.filter((node) => !gone.has(node)),
    input: graph.input.filter(({ name }) => !names.has(name)),
  };
}

function constantOf(node: NodeProto, name: string): GraphProto['initializer'][number] | undefined {
  const tensor = findAttribute(node, 'value')?.t;
  if (tensor !== undefined) return { ...tensor, name };
  const float = findAttribute(node, 'value_float');
  if (float !== undefined) return floatTensor(name, [], Float32Array.of(float.f));
  const floats = findAttribute(node, 'value_floats')?.floats;
  if (floats !== undefined) return floatTensor(name, [floats.length], Float32Array.from(floats));
  const integer = findAttribute(node, 'value_int');
  if (integer !== undefined) return int64Tensor(name, [Number(integer.i)], []);
  const integers = findAttribute(node, 'value_ints')?.ints;
  return integers === undefined ? undefined : int64Tensor(name, integers.map(Number));
}

/** Takes out nodes that hand on their input as it is: Identity, and Dropout where nobody trains. */
function removePassThrough(graph: GraphProto): GraphProto {
  const view = new GraphView(graph);
  const sources = new Map<string, string>();
  const source = (name: string): string => sources.get(name) ?? name;
  const node: NodeProto[] = [];
  for (const one of graph.node) {
    const [input, output] = [one.input[0] ?? '', one.output[0] ?? ''];
    const isPass = isStandard(one, 'Identity') || (isStandard(one, 'Dropout') && isIdle(one, view));
    if (isPass && !view.outputs.has(output) && !view.captured.has(output)) sources.set(output, source(input));
    else node.push(one.input.some((name) => sources.has(name)) ? { ...one, input: one.input.map(source) } : one);
  }
  return { ...graph, node };
}

function isIdle(dropout: NodeProto, view: GraphView): boolean {
  const mask = dropout.output[1] ?? '';
  const readsMask = view.readers(mask).length > 0 || view.outputs.has(mask) || view.captured.has(mask);
  return (mask === '' || !readsMask) && (dropout.input[2] ?? '') === '';
}

/** Keeps the nodes and constants that an output depends on. */
export function removeDead(graph: GraphProto): GraphProto {
  const view = new GraphView(graph);
  const needed = new Set([...view.outputs, ...view.captured]);
  const node: NodeProto[] = [];
  for (const one of graph.node.toReversed()) {
    if (!one.output.some((name) => needed.has(name))) continue;
    for (const name of one.input) needed.add(name);
    node.push(one);
  }
  const made = new Set(node.flatMap((one) => one.output));
  return {
    ...graph,
    node: node.reverse(),
    initializer: graph.initializer.filter(({ name }) => needed.has(name)),
    valueInfo: graph.valueInfo.filter(({ name }) => made.has(name)),
  };
}

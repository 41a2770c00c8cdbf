import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { dimsOf } from '../onnx/tensor-data.ts';
import { sizeOf } from '../tensor/shape.ts';
import { denseLayerOf, isConstantFloat, ROWS_MAX } from './dense-layer.ts';
import { isStandard } from './graph-view.ts';
import type { GraphView } from './graph-view.ts';
import { excluder, idOf } from './select.ts';
import type { KeptLayer, Selection } from './select.ts';

/** Which nodes run on codes, and which values therefore pass through codes. */
export interface Placement {
  /** Convolutions and matrix products: what makes it worth while. */
  anchors: ReadonlySet<NodeProto>;
  /** Nodes between anchors that have a kernel for codes, so that values need not become floats in between. */
  carriers: ReadonlySet<NodeProto>;
  /** Values that are rounded, each with the value whose range it has. */
  values: ReadonlyMap<string, string>;
  /** Those of them that a node on codes makes: every reader sees them rounded. */
  madeOnCodes: ReadonlySet<string>;
  kept: readonly KeptLayer[];
}

/** Hand on numbers without changing them: their output has the input's scale. */
const movers = ['MaxPool', 'Reshape', 'Flatten', 'Transpose', 'Squeeze', 'Unsqueeze'];
const mixers = ['Add', 'Mul', 'Concat', 'GlobalAveragePool', 'AveragePool', 'Sigmoid', 'LeakyRelu'];

/** Decides where QuantizeLinear and DequantizeLinear go so that onnxruntime fuses them with what they surround. */
export function place(view: GraphView, selection: Selection): Placement {
  const isExcluded = excluder(selection);
  const anchors = new Set<NodeProto>();
  const kept: KeptLayer[] = [];
  for (const node of view.graph.node) {
    if (!isStandard(node, 'Conv', 'Gemm', 'MatMul')) continue;
    const reason = isExcluded(node) ? 'is excluded' : obstacleOf(node, view);
    if (reason === undefined) anchors.add(node);
    else kept.push({ ...idOf(node), reason });
  }
  const carriers = wanted(candidatesOf(view, anchors, isExcluded), anchors, view);
  const madeOnCodes = new Set<string>();
  for (const node of view.graph.node) {
    if (carriers.has(node) || (anchors.has(node) && isMadeForCodes(node, view, anchors, carriers))) {
      madeOnCodes.add(activatedOutput(node, view));
    }
  }
  return { anchors, carriers, values: roundedValues(view, anchors, carriers, madeOnCodes), madeOnCodes, kept };
}

/** The node's output, behind the Relu or Clip that the runtime folds into the rounding. */
export function activatedOutput(node: NodeProto, view: GraphView): string {
  const output = node.output[0]!;
  const reader = isMover(node) ? undefined : view.soleReader(output);
  return reader !== undefined && isClamp(reader, view) && reader.input[0] === output ? reader.output[0]! : output;
}

/** Nodes that could run on codes because all they read is made on codes. */
function candidatesOf(
  view: GraphView,
  anchors: ReadonlySet<NodeProto>,
  isExcluded: (node: NodeProto) => boolean,
): Set<NodeProto> {
  const candidates = new Set<NodeProto>();
  const available = new Set<string>();
  for (const node of view.graph.node) {
    const isCandidate = canCarry(node) && !isExcluded(node) && readOnCodes(node).every((name) => available.has(name));
    if (isCandidate) candidates.add(node);
    if (isCandidate || anchors.has(node)) available.add(activatedOutput(node, view));
  }
  return candidates;
}

/** Those candidates on whose codes an anchor waits in the end. */
function wanted(candidates: Set<NodeProto>, anchors: ReadonlySet<NodeProto>, view: GraphView): Set<NodeProto> {
  const chosen = new Set<NodeProto>();
  for (const node of view.graph.node.toReversed()) {
    if (candidates.has(node) && isReadOnCodes(activatedOutput(node, view), view, anchors, chosen)) chosen.add(node);
  }
  return chosen;
}

/** A convolution on codes always makes codes; a matrix product can also make floats, which is more exact. */
function isMadeForCodes(
  node: NodeProto,
  view: GraphView,
  anchors: ReadonlySet<NodeProto>,
  carriers: ReadonlySet<NodeProto>,
): boolean {
  return node.opType === 'Conv' || isReadOnCodes(activatedOutput(node, view), view, anchors, carriers);
}

function isReadOnCodes(
  value: string,
  view: GraphView,
  anchors: ReadonlySet<NodeProto>,
  carriers: ReadonlySet<NodeProto>,
): boolean {
  return view
    .readers(value)
    .some((node) => (anchors.has(node) || carriers.has(node)) && readOnCodes(node).includes(value));
}

function roundedValues(
  view: GraphView,
  anchors: ReadonlySet<NodeProto>,
  carriers: ReadonlySet<NodeProto>,
  madeOnCodes: ReadonlySet<string>,
): Map<string, string> {
  const values = new Map<string, string>();
  for (const node of view.graph.node) {
    if (!anchors.has(node) && !carriers.has(node)) continue;
    for (const name of readOnCodes(node)) if (!values.has(name)) values.set(name, name);
    const output = activatedOutput(node, view);
    if (!madeOnCodes.has(output)) continue;
    const isMoved = carriers.has(node) && isMover(node);
    values.set(output, isMoved ? values.get(node.input[0]!)! : output);
  }
  return values;
}

/** Inputs that a node on codes takes as codes that vary from run to run. */
export function readOnCodes(node: NodeProto): string[] {
  return isStandard(node, 'Add', 'Mul', 'Concat') ? node.input : node.input.slice(0, 1);
}

export function isMover(node: NodeProto): boolean {
  return isStandard(node, ...movers);
}

function canCarry(node: NodeProto): boolean {
  return isStandard(node, ...movers, ...mixers) && node.output.slice(1).every((name) => name === '');
}

function isClamp(node: NodeProto, view: GraphView): boolean {
  if (isStandard(node, 'Relu')) return true;
  return isStandard(node, 'Clip') && node.input.slice(1).every((name) => name === '' || isConstantFloat(name, view));
}

function obstacleOf(node: NodeProto, view: GraphView): string | undefined {
  if (node.opType === 'Conv') {
    if (!isConstantFloat(node.input[1] ?? '', view)) return 'has no constant float32 weight';
    const bias = node.input[2] ?? '';
    return bias === '' || isConstantFloat(bias, view) ? undefined : 'has a bias that is computed';
  }
  const layer = denseLayerOf(node, view);
  if (typeof layer === 'string') return layer;
  if (layer.rows > ROWS_MAX) return `sums ${layer.rows} products, too many for int32`;
  if (layer.bias === undefined) return undefined;
  const bias = view.constants.get(layer.bias);
  if (bias === undefined) return 'has a bias that is computed';
  return [1, layer.columns].includes(sizeOf(dimsOf(bias))) ? undefined : 'has a bias per row';
}

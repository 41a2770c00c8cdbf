import { TensorProto_DataType } from '../onnx/gen/onnx/onnx_pb.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { intAttribute } from '../onnx/nodes.ts';
import { dimsOf, floatValues } from '../onnx/tensor-data.ts';
import { sizeOf } from '../tensor/shape.ts';
import { elementTypes } from './element-types.ts';
import { QuantizeError } from './errors.ts';
import { FLOAT16_MAX, float16Bytes } from './float16.ts';
import { hasSubgraph, isStandard, labelOf } from './graph-view.ts';
import type { GraphView } from './graph-view.ts';
import { GraphWriter } from './graph-writer.ts';
import { prepare } from './prepare.ts';
import { excluder, idOf, requireLayers } from './select.ts';
import type { KeptLayer, LayerId, QuantizedModel, Selection } from './select.ts';

const { FLOAT, FLOAT16 } = TensorProto_DataType;
/** Bytes of a weight that are taken at a time: whole numbers of float32. */
const PIECE = 256 * 1024;

/**
 * Operators that lack a float16 form, or count and compare so finely that they need float32; those whose type an attribute says,
 * since the runtime has no float16 kernel for them and cannot put one around a type that is fixed; and sequences, which no Cast takes.
 */
export const floatOnly: readonly string[] = [
  'CumSum',
  'NonMaxSuppression',
  'OneHot',
  'Range',
  'Resize',
  'RoiAlign',
  'TopK',
  'Upsample',
  'ConstantOfShape',
  'RandomNormal',
  'RandomNormalLike',
  'RandomUniform',
  'RandomUniformLike',
  'Bernoulli',
  'Multinomial',
  'EyeLike',
  'BlackmanWindow',
  'HammingWindow',
  'HannWindow',
  'MelWeightMatrix',
  'TfIdfVectorizer',
  'SequenceEmpty',
  'SequenceConstruct',
  'SequenceInsert',
  'SequenceErase',
  'SequenceAt',
  'SequenceLength',
  'SplitToSequence',
  'ConcatFromSequence',
];

/** Weights and arithmetic in float16; inputs and outputs stay float32. Half the size; faster only where the device has float16. */
export function toHalf(model: ModelProto, selection: Selection = {}): QuantizedModel {
  const { model: prepared, folded } = prepare(model);
  const writer = new GraphWriter(prepared);
  const { graph } = writer.view;
  const withGraph = graph.node.find(hasSubgraph);
  if (withGraph !== undefined) {
    throw new QuantizeError(
      `node '${labelOf(withGraph)}' (${withGraph.opType}) holds a graph of its own, which float16 does not reach; use another form`,
    );
  }
  const types = elementTypes(graph);
  const isFloat = (name: string): boolean => types.get(name) === FLOAT;
  const isExcluded = excluder(selection);
  const [layers, kept]: [LayerId[], KeptLayer[]] = [[], []];
  const halves = new Map<string, string>();
  const floats = new Map<string, string>(
    [...graph.input, ...graph.initializer].filter(({ name }) => isFloat(name)).map(({ name }) => [name, name]),
  );
  const asHalf = (name: string): string => {
    if (!isFloat(name)) return name;
    const known = halves.get(name);
    if (known !== undefined) return known;
    const tensor = writer.view.constants.get(name);
    const half =
      tensor === undefined ? cast(writer, floats.get(name)!, FLOAT16) : writer.initializer(halfTensor(tensor, writer));
    halves.set(name, half);
    return half;
  };
  const asFloat = (name: string): string => {
    if (!isFloat(name)) return name;
    const known = floats.get(name);
    if (known !== undefined) return known;
    const float = cast(writer, halves.get(name)!, FLOAT);
    floats.set(name, float);
    return float;
  };
  for (const node of graph.node) {
    if (![...node.input, ...node.output].some(isFloat)) {
      writer.keep(node);
      continue;
    }
    if (isStandard(node, 'Cast', 'CastLike') && !node.output.some(isFloat) && !isExcluded(node)) {
      // Whole numbers beyond 2048 are lost in float16, so what is there in float32 is read as that.
      writer.keep({ ...node, input: node.input.map(asFloat) });
      continue;
    }
    const reason = isExcluded(node) ? 'is excluded' : obstacleOf(node, writer, isFloat);
    if (reason !== undefined) {
      kept.push({ ...idOf(node), reason });
      writer.keep({ ...node, input: node.input.map(asFloat) });
      for (const name of node.output) if (isFloat(name)) floats.set(name, name);
      continue;
    }
    layers.push(idOf(node));
    const input = node.input.map(asHalf);
    const output = node.output.map((name) => (isFloat(name) ? writer.fresh(`${name}_half`) : name));
    node.output.forEach((name, index) => isFloat(name) && halves.set(name, output[index]!));
    writer.keep({ ...withHalfType(node), input, output });
    for (const name of node.output) {
      if (!isFloat(name) || !writer.view.outputs.has(name)) continue;
      writer.emit('Cast', [halves.get(name)!], name, { to: FLOAT });
      floats.set(name, name);
    }
  }
  requireLayers(layers, kept, { graph, wanted: 'node that computes with float32' });
  const made = writer.finish();
  // The types that were recorded for values between nodes are no longer true.
  return { model: { ...made, graph: { ...made.graph!, valueInfo: [] } }, layers, kept, folded };
}

function obstacleOf(node: NodeProto, writer: GraphWriter, isFloat: (name: string) => boolean): string | undefined {
  if (!isStandard(node, node.opType)) return 'is not an operator of the standard';
  if (floatOnly.includes(node.opType)) return 'needs float32';
  if (node.opType === 'LayerNormalization' && node.output.slice(1).some(isFloat)) return 'hands on its mean in float32';
  if (isSecondScale(node, writer.view)) return 'scales a product whose other side is scaled too';
  for (const name of node.input) {
    const tensor = writer.view.constants.get(name);
    if (tensor !== undefined && isFloat(name) && !fits(tensor)) return 'has a weight beyond the range of float16';
  }
  return undefined;
}

/**
 * ONNX Runtime (1.30 and 1.32 at least) may crash when it draws the scales of both sides of a float16 product into it, as PyTorch
 * exports attention. A scale that stays float32 stands in its way.
 */
function isSecondScale(node: NodeProto, view: GraphView): boolean {
  if (!isScale(node, view)) return false;
  const [output = ''] = node.output;
  return view.readers(output).some((reader) => {
    const [first = '', second = ''] = reader.input;
    const other = view.maker(first);
    return isStandard(reader, 'MatMul') && second === output && other !== undefined && isScale(other, view);
  });
}

function isScale(node: NodeProto, view: GraphView): boolean {
  const isNumber = (name: string): boolean => {
    const tensor = view.constants.get(name);
    return tensor !== undefined && sizeOf(dimsOf(tensor)) === 1;
  };
  return isStandard(node, 'Mul', 'Div') && node.input.some(isNumber);
}

function fits(tensor: TensorProto): boolean {
  // A mask of minus infinity or of the lowest float32 means "never", which no float16 but infinity says.
  for (const values of floatPieces(tensor)) {
    if (!values.every((value) => Math.abs(value) <= FLOAT16_MAX)) return false;
  }
  return true;
}

/** Its numbers in turn, a piece at a time: a copy of a whole weight is held until memory is scarce. */
function* floatPieces(tensor: TensorProto): Generator<Float32Array> {
  const { rawData } = tensor;
  if (rawData.length === 0) return yield floatValues(tensor);
  for (let at = 0; at < rawData.length; at += PIECE) {
    yield floatValues({ ...tensor, rawData: rawData.subarray(at, at + PIECE) });
  }
}

function halfBytes(tensor: TensorProto): Uint8Array {
  const bytes = new Uint8Array(sizeOf(dimsOf(tensor)) * 2);
  let at = 0;
  for (const values of floatPieces(tensor)) {
    bytes.set(float16Bytes(values), at);
    at += values.length * 2;
  }
  return bytes;
}

function halfTensor(tensor: TensorProto, writer: GraphWriter): TensorProto {
  return {
    ...tensor,
    name: writer.fresh(`${tensor.name}_half`),
    dataType: FLOAT16,
    floatData: [],
    rawData: halfBytes(tensor),
  };
}

function cast(writer: GraphWriter, name: string, to: number): string {
  return writer.emit('Cast', [name], writer.fresh(`${name}_${to === FLOAT16 ? 'half' : 'float'}`), { to });
}

/** A Cast to float32 inside the graph now goes to float16; one to another type stays. */
function withHalfType(node: NodeProto): NodeProto {
  if (node.opType !== 'Cast' || intAttribute(node, 'to', FLOAT) !== FLOAT) return node;
  return {
    ...node,
    attribute: node.attribute.map((one) => (one.name === 'to' ? { ...one, i: BigInt(FLOAT16) } : one)),
  };
}

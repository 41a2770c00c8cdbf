import { graphOf } from '../onnx/file.ts';
import type { ModelProto, NodeProto, TensorProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { findAttribute, intAttribute } from '../onnx/nodes.ts';
import { dimsOf, floatTensor, floatValues, int64Tensor } from '../onnx/tensor-data.ts';
import { GraphView } from '../quantize/graph-view.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Channel, Slice } from './channels.ts';
import type { Follower, Resizing } from './follower.ts';

/** The model without these channels: weights get narrower, and what names a width names the new one. */
export function withoutChannels(model: ModelProto, follower: Follower, gone: ReadonlySet<Channel>): ModelProto {
  const graph = graphOf(model);
  const view = new GraphView(graph);
  const stays = (channel: Channel): boolean => !gone.has(follower.sets.find(channel));
  const kept = (channels: readonly Channel[]): number => channels.filter(stays).length;
  const initializer = graph.initializer.map((tensor) => {
    const slices = follower.slices.get(tensor.name) ?? [];
    return slices.reduce((rest, slice) => narrowed(rest, slice, stays), tensor);
  });
  const targets: TensorProto[] = [];
  const node = graph.node.map((one) => {
    const resizing = follower.resizings.find((each) => each.node === one);
    if (resizing !== undefined && kept(resizing.channels) < resizing.channels.length) {
      return withTarget(resizing, kept(resizing.channels), view, targets);
    }
    const track = isDepthwise(one, view) ? follower.track(one.input[0]!) : undefined;
    return track === undefined ? one : withGroups(one, kept(track.channels));
  });
  return { ...model, graph: { ...graph, node, initializer: [...initializer, ...targets], valueInfo: [] } };
}

function narrowed(tensor: TensorProto, { axis, channels }: Slice, stays: (channel: Channel) => boolean): TensorProto {
  const places = channels.flatMap((channel, place) => (stays(channel) ? [place] : []));
  if (places.length === channels.length) return tensor;
  const shape = dimsOf(tensor);
  const inner = sizeOf(shape.slice(axis + 1));
  const outer = sizeOf(shape.slice(0, axis));
  const values = floatValues(tensor);
  const rest = new Float32Array(outer * places.length * inner);
  for (let row = 0; row < outer; row++) {
    places.forEach((place, at) => {
      const from = (row * channels.length + place) * inner;
      rest.set(values.subarray(from, from + inner), (row * places.length + at) * inner);
    });
  }
  const dims = shape.map((size, at) => (at === axis ? places.length : size));
  return { ...floatTensor(tensor.name, dims, rest), docString: tensor.docString };
}

/** A width that is written out is written anew; where it follows from the rest, it still does. */
function withTarget(
  { node, axis, shape }: Resizing,
  width: number,
  view: GraphView,
  targets: TensorProto[],
): NodeProto {
  const constant = view.constants.get(node.input[1]!);
  const written = constant === undefined ? computed(shape) : integersIn(constant);
  if (constant !== undefined && written[axis]! <= 0) return node;
  const target = written.map((size, at) => (at === axis ? width : size));
  const name = view.freshName(`${node.output[0]}_shape`);
  targets.push(int64Tensor(name, target));
  return { ...node, input: [node.input[0]!, name] };
}

/** What was computed for a batch of examples: the first size stays that of the input. */
const computed = (shape: readonly number[]): number[] => shape.map((size, axis) => (axis === 0 ? 0 : size));

const integersIn = (tensor: TensorProto): number[] =>
  tensor.int64Data.length > 0
    ? tensor.int64Data.map(Number)
    : Array.from({ length: tensor.rawData.length / 8 }, (_, at) =>
        Number(new DataView(tensor.rawData.buffer, tensor.rawData.byteOffset).getBigInt64(at * 8, true)),
      );

function isDepthwise(node: NodeProto, view: GraphView): boolean {
  const weight = view.constants.get(node.input[1] ?? '');
  return (
    node.opType === 'Conv' && intAttribute(node, 'group', 1) > 1 && weight !== undefined && dimsOf(weight)[1] === 1
  );
}

function withGroups(node: NodeProto, groups: number): NodeProto {
  const known = findAttribute(node, 'group')!;
  const attribute = node.attribute.map((one) => (one === known ? { ...one, i: BigInt(groups) } : one));
  return { ...node, attribute };
}

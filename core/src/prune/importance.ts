import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import { floatAttribute } from '../onnx/nodes.ts';
import { dimsOf, floatValues } from '../onnx/tensor-data.ts';
import type { GraphView } from '../quantize/graph-view.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Channel, Maker } from './channels.ts';
import type { Follower } from './follower.ts';

/**
 * How much each channel says: the mean size of the weights that make it (Li et al. 2017, "Pruning Filters for Efficient ConvNets"), as a share of the
 * layer's own mean, so that layers count alike, and over all layers that make it. A batch norm behind a layer scales what it makes.
 */
export function importances(follower: Follower, view: GraphView): Map<Channel, number> {
  const found = new Map<Channel, number>();
  for (const maker of follower.makers) {
    const sizes = sizesOf(maker);
    scaleByNorm(sizes, maker.node, view);
    const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length || 1;
    sizes.forEach((size, place) => {
      const channel = follower.sets.find(maker.channels[place]!);
      found.set(channel, (found.get(channel) ?? 0) + size / mean);
    });
  }
  return found;
}

/** Mean magnitude of each place along the axis. */
function sizesOf({ tensor, axis }: Maker): Float64Array {
  const values = floatValues(tensor);
  const shape = dimsOf(tensor);
  const count = shape[axis]!;
  const inner = sizeOf(shape.slice(axis + 1));
  const sizes = new Float64Array(count);
  for (let index = 0; index < values.length; index++) {
    sizes[Math.floor(index / inner) % count]! += (Math.abs(values[index]!) * count) / values.length;
  }
  return sizes;
}

function scaleByNorm(sizes: Float64Array, node: NodeProto, view: GraphView): void {
  const norm = view.soleReader(node.output[0]!);
  if (norm?.opType !== 'BatchNormalization' || norm.input[0] !== node.output[0]) return;
  const [scale, variance] = [view.constants.get(norm.input[1]!), view.constants.get(norm.input[4]!)];
  if (scale === undefined || variance === undefined) return;
  const [gains, spreads] = [floatValues(scale), floatValues(variance)];
  const epsilon = floatAttribute(norm, 'epsilon', 1e-5);
  for (let place = 0; place < sizes.length; place++) {
    sizes[place]! *= Math.abs(gains[place]!) / Math.sqrt(spreads[place]! + epsilon);
  }
}

import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { floatAttribute } from '../onnx/nodes.ts';
import type { RandomStream } from '../random/stream.ts';

/** An input that a Dropout multiplies by: each step wants a mask of its own. */
export interface DropoutMask {
  input: string;
  shape: readonly number[];
  /** Chance of each number to stay. */
  keep: number;
}

/** Writes a Dropout as a product with a mask that comes from outside, so that chance stays with the seed; undefined where nothing drops. */
export function writeDropout(graph: GraphBuilder, node: NodeProto, index: number): DropoutMask | undefined {
  const [x, ratio = ''] = node.input;
  const dropped = graph.constantFloats(ratio)?.[0] ?? floatAttribute(node, 'ratio', 0.5);
  if (dropped <= 0 || dropped >= 1) return undefined;
  const shape = graph.shapeOf(x!);
  const input = graph.input(`training/dropout-${index}`, shape);
  graph.emit('Mul', [x!, input], {}, node.output[0]);
  return { input, shape, keep: 1 - dropped };
}

/** Srivastava et al. 2014, inverted: what stays is scaled up, so that inference needs no scaling. The same stream gives the same mask. */
export function dropoutMask({ shape, keep }: DropoutMask, random: RandomStream): Float32Array {
  const length = shape.reduce((product, size) => product * size, 1);
  const threshold = keep * 2 ** 32;
  const mask = new Float32Array(length);
  for (let index = 0; index < length; index++) mask[index] = random.bits() < threshold ? 1 / keep : 0;
  return mask;
}

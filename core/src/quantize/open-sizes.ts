import type { Constant } from '../onnx/constants/constant.ts';
import type { NodeProto } from '../onnx/gen/onnx/onnx_pb.ts';

/**
 * What sizes that a model leaves open are taken to be: the least, and one beyond all that are met. Shapes rise with the sizes that
 * they come from, so what is the same for both is the same for all between. Numbers that rise with them are followed, others not.
 */
export const OPEN_SIZES: readonly number[] = [1, 65_536];

/** By operator, the inputs with whose numbers its output, or its output's shape, rises. */
const rising: Readonly<Record<string, readonly number[]>> = {
  ...Object.fromEntries(
    ['Identity', 'Cast', 'Squeeze', 'Unsqueeze', 'Gather', 'Slice', 'Transpose', 'Floor', 'Ceil'].map((name) => [
      name,
      [0],
    ]),
  ),
  // Less a constant, or in parts of a constant size.
  Sub: [0],
  Div: [0],
  Add: [0, 1],
  Mul: [0, 1],
  Reshape: [0, 1],
  Expand: [1],
  Tile: [1],
  ConstantOfShape: [0],
  Resize: [2, 3],
};

/** Whether a node may look at an input's numbers where they depend on the open sizes. */
export function risesWith(node: NodeProto, position: number): boolean {
  if (node.opType === 'Concat') return true;
  return Object.hasOwn(rising, node.opType) && rising[node.opType]!.includes(position);
}

/** Whether numbers that depend on the open sizes are followed: a negative factor falls, and -1 among sizes asks for a quotient. */
export function isFollowed(numbers: readonly Constant[]): boolean {
  return numbers.every(({ data }) => data.every((number: number | bigint) => number >= 0));
}

import type { NodeProto } from './gen/onnx/onnx_pb.ts';
import { TensorProto_DataType } from './gen/onnx/onnx_pb.ts';
import { contractionOf } from './einsum.ts';
import { intAttribute } from './nodes.ts';
import { resizedAxes } from './resampling.ts';
import { hasInput, misfit, requiredIntegers } from './shape-rule.ts';
import type { ShapeRule, ValueType } from './shape-rule.ts';
import { cutsOf } from './slices.ts';
import { wrapAxis } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';

const { INT64 } = TensorProto_DataType;

/** Shapes of operators that pick, repeat and lay out numbers anew. */
export const movingShapes: Readonly<Record<string, ShapeRule>> = {
  Tile: (site) => {
    const { shape, elemType } = site.inputs[0]!;
    const repeats = requiredIntegers(site, 1);
    return [{ shape: shape.map((size, axis) => size * repeats[axis]!), elemType }];
  },
  Pad: (site) => {
    const { shape, elemType } = site.inputs[0]!;
    const pads = requiredIntegers(site, 1);
    if (pads.length !== 2 * shape.length || hasInput(site.node, 3)) return misfit(site.node, site.inputs);
    return [{ shape: shape.map((size, axis) => size + pads[axis]! + pads[axis + shape.length]!), elemType }];
  },
  Slice: (site) => {
    const { shape, elemType } = site.inputs[0]!;
    const sliced = [...shape];
    for (const { axis, length } of cutsOf(site)) sliced[axis] = length;
    return [{ shape: sliced, elemType }];
  },
  Resize: (site) => [{ shape: resizedAxes(site).sizes, elemType: site.inputs[0]!.elemType }],
  GatherElements: ({ inputs }) => [{ shape: inputs[1]!.shape, elemType: inputs[0]!.elemType }],
  GatherND: ({ node, inputs }) => {
    const [{ shape, elemType }, places] = [inputs[0]!, inputs[1]!.shape];
    const depth = intAttribute(node, 'batch_dims', 0) + places.at(-1)!;
    if (depth > shape.length) return misfit(node, inputs);
    return [{ shape: [...places.slice(0, -1), ...shape.slice(depth)], elemType }];
  },
  Einsum: ({ node, inputs }) => {
    const { result, sizes } = contractionOf(
      node,
      inputs.map(({ shape }) => shape),
    );
    return [{ shape: result.map((letter) => sizes.get(letter)!), elemType: inputs[0]!.elemType }];
  },
  ArgMax: ({ node, inputs }) => [chosenPlaces(node, inputs[0]!.shape)],
  ArgMin: ({ node, inputs }) => [chosenPlaces(node, inputs[0]!.shape)],
  TopK: (site) => {
    const { shape, elemType } = site.inputs[0]!;
    const axis = wrapAxis(intAttribute(site.node, 'axis', -1), shape.length);
    const [count] = requiredIntegers(site, 1);
    const chosen = shape.map((size, at) => (at === axis ? count! : size));
    return [
      { shape: chosen, elemType },
      { shape: chosen, elemType: INT64 },
    ];
  },
};

function chosenPlaces(node: NodeProto, shape: Shape): ValueType {
  const along = wrapAxis(intAttribute(node, 'axis', 0), shape.length);
  const keep = intAttribute(node, 'keepdims', 1) === 1;
  return { shape: shape.flatMap((size, axis) => (axis === along ? (keep ? [1] : []) : [size])), elemType: INT64 };
}

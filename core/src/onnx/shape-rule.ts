import { OnnxError } from './errors.ts';
import type { NodeProto } from './gen/onnx/onnx_pb.ts';
import type { Shape } from '../tensor/shape.ts';

/** What is known of a value when a graph is built. */
export interface ValueType {
  shape: Shape;
  elemType: number;
}

/** What a shape rule may look at; `integers` and `floats` are the numbers of a constant input such as a target shape or a scale. */
export interface ShapeSite {
  node: NodeProto;
  inputs: readonly ValueType[];
  integers(position: number): readonly number[] | undefined;
  floats(position: number): readonly number[] | undefined;
}

export type ShapeRule = (site: ShapeSite) => ValueType[];

/** True where the node was given this input; an empty name leaves an optional one out. */
export function hasInput({ input }: NodeProto, position: number): boolean {
  return (input[position] ?? '') !== '';
}

export function requiredIntegers(site: ShapeSite, position: number): readonly number[] {
  const values = site.integers(position);
  if (values !== undefined) return values;
  throw new OnnxError(
    `node '${site.node.name}' (${site.node.opType}) computes input ${position} at run time; export the model with fixed shapes`,
  );
}

export function misfit(node: NodeProto, inputs: readonly ValueType[]): never {
  const shapes = inputs.map(({ shape }) => `[${shape.join()}]`).join(', ');
  throw new OnnxError(`shapes ${shapes} do not fit operator ${node.opType} of node '${node.name}'; mend the model`);
}

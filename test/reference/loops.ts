/** Naive loops over tensors in float64. */
import type { NodeProto } from '../../core/src/onnx/gen/onnx/onnx_pb.ts';
import type { GraphBuilder } from '../../core/src/onnx/graph-builder.ts';
import { sizeOf, stridesOf } from '../../core/src/tensor/shape.ts';
import type { Shape } from '../../core/src/tensor/shape.ts';

export interface Tensor {
  shape: Shape;
  data: Float64Array;
}

export interface Call {
  node: NodeProto;
  inputs: Tensor[];
  output: Shape;
  graph: GraphBuilder;
}

export type Kernel = (call: Call) => Float64Array[];

export function fill(shape: Shape, value: (place: number[], index: number) => number): Float64Array {
  const result = new Float64Array(sizeOf(shape));
  each(shape, (place, index) => (result[index] = value(place, index)));
  return result;
}

export function each(shape: Shape, visit: (place: number[], index: number) => void): void {
  const strides = stridesOf(shape);
  for (let index = 0; index < sizeOf(shape); index++) {
    visit(
      shape.map((size, axis) => Math.floor(index / strides[axis]!) % size),
      index,
    );
  }
}

export function dot(place: readonly number[], strides: readonly number[]): number {
  return place.reduce((sum, at, axis) => sum + at * strides[axis]!, 0);
}

export function inside(spot: readonly number[], shape: Shape): boolean {
  return spot.every((at, axis) => at >= 0 && at < shape[axis]!);
}

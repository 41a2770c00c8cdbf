import { OnnxError } from '../errors.ts';
import { room } from './constant.ts';
import type { Constant, Numbers } from './constant.ts';
import { sizeOf, stridesOf } from '../../tensor/shape.ts';
import type { Shape } from '../../tensor/shape.ts';

/** Numbers of a new shape, of which neighbours along an axis lie `strides[axis]` apart in the source. Throws OnnxError where it ends before. */
export function strided({ elemType, data }: Constant, shape: Shape, strides: readonly number[], start = 0): Numbers {
  const taken = room(elemType, sizeOf(shape))!;
  const [least, greatest] = [Math.min, Math.max].map((extreme) =>
    shape.reduce((sum, size, axis) => sum + extreme(0, (size - 1) * strides[axis]!), start),
  );
  const isInside = least! >= 0 && greatest! < data.length;
  if (taken.length > 0 && !isInside) throw new OnnxError('a constant is read beyond its end; mend the model');
  const [rowLength, rowStride] = [shape.at(-1) ?? 1, strides.at(-1) ?? 0];
  const place = shape.map(() => 0);
  let from = start;
  for (let at = 0; at < taken.length;) {
    for (let index = 0; index < rowLength; index++, at++) taken[at] = data[from + index * rowStride]!;
    for (let axis = shape.length - 2; axis >= 0; axis--) {
      from += strides[axis]!;
      place[axis]! += 1;
      if (place[axis]! < shape[axis]!) break;
      from -= strides[axis]! * shape[axis]!;
      place[axis] = 0;
    }
  }
  return taken;
}

/** Strides that repeat a tensor along the axes which numpy's rule stretches. */
export function stretchedStrides(from: Shape, to: Shape): number[] {
  const own = stridesOf(from);
  const missing = to.length - from.length;
  return to.map((_, axis) => (axis < missing || from[axis - missing] === 1 ? 0 : own[axis - missing]!));
}

/** The tensor's numbers in a shape that it broadcasts to. */
export function stretched(constant: Constant, shape: Shape): Numbers {
  if (sizeOf(shape) === constant.data.length) return constant.data;
  return strided(constant, shape, stretchedStrides(constant.shape, shape));
}

import { constantsOf, likeConstantsOf, roomFor } from './fold-site.ts';
import type { Fold } from './fold-site.ts';
import { readConstant } from './constant.ts';
import type { Numbers } from './constant.ts';
import { strided, stretched, stretchedStrides } from './strided.ts';
import { findAttribute, intAttribute } from '../nodes.ts';
import { permutationOf } from '../shapes.ts';
import { cutsOf } from '../slices.ts';
import { sizeOf, stridesOf, wrapAxis } from '../../tensor/shape.ts';

/** The same numbers in another shape. */
const relaid: Fold = (site) => site.constant(0)?.data;

const filled = (data: Numbers | undefined, value: number | bigint): Numbers | undefined =>
  // Room for 64-bit integers takes bigints only, and the value is of the room's type.
  (data as Float32Array | undefined)?.fill(value as number);

/** Operators that make lists of shapes, and pick, repeat and lay out numbers anew. */
export const movingFolds: Readonly<Record<string, Fold>> = {
  Identity: relaid,
  Reshape: relaid,
  Flatten: relaid,
  Squeeze: relaid,
  Unsqueeze: relaid,
  Shape: ({ node, inputs }) => {
    const { shape } = inputs[0]!;
    const named = shape.slice(intAttribute(node, 'start', 0), intAttribute(node, 'end', shape.length));
    return BigInt64Array.from(named, BigInt);
  },
  Size: ({ inputs }) => BigInt64Array.of(BigInt(sizeOf(inputs[0]!.shape))),
  ConstantOfShape: (site) => {
    const value = findAttribute(site.node, 'value')?.t;
    if (value === undefined) return roomFor(site);
    const number = readConstant(value)?.data[0];
    return number === undefined ? undefined : filled(roomFor(site), number);
  },
  Range: (site) => {
    const [start, , step] = likeConstantsOf(site)?.map(({ data }) => data[0]) ?? [];
    const made = roomFor(site);
    // Floats are summed or multiplied up, as the build of a runtime has it.
    if (start === undefined || step === undefined || made instanceof Float32Array || made instanceof Float64Array) {
      return undefined;
    }
    made?.forEach((_: number | bigint, index: number) => {
      const value = BigInt(start) + BigInt(index) * BigInt(step);
      made[index] = made instanceof BigInt64Array ? value : Number(value);
    });
    return made;
  },
  Concat: (site) => {
    const parts = likeConstantsOf(site);
    const joined = roomFor(site);
    if (parts === undefined || joined === undefined) return undefined;
    const { shape } = site.output;
    const along = wrapAxis(intAttribute(site.node, 'axis', 0), shape.length);
    const rows = parts.map((part) => sizeOf(part.shape.slice(along)));
    let at = 0;
    for (let row = 0; row < sizeOf(shape.slice(0, along)); row++) {
      parts.forEach(({ data }, index) => {
        const length = rows[index]!;
        (joined as Float32Array).set(data.subarray(row * length, (row + 1) * length) as Float32Array, at);
        at += length;
      });
    }
    return joined;
  },
  Gather: (site) => {
    const [data, indices] = [site.constant(0), site.integers(1)];
    const picked = roomFor(site);
    if (data === undefined || indices === undefined || picked === undefined) return undefined;
    const axis = wrapAxis(intAttribute(site.node, 'axis', 0), data.shape.length);
    const size = data.shape[axis]!;
    const places = indices.map((index) => wrapAxis(index, size));
    if (places.some((place) => place < 0 || place >= size)) return undefined;
    const length = sizeOf(data.shape.slice(axis + 1));
    let at = 0;
    for (let row = 0; row < sizeOf(data.shape.slice(0, axis)); row++) {
      for (const place of places) {
        const from = (row * size + place) * length;
        (picked as Float32Array).set(data.data.subarray(from, from + length) as Float32Array, at);
        at += length;
      }
    }
    return picked;
  },
  Slice: (site) => {
    const data = site.constant(0);
    if (data === undefined) return undefined;
    const strides = stridesOf(data.shape);
    let first = 0;
    for (const { axis, start, step } of cutsOf(site)) {
      first += start * strides[axis]!;
      strides[axis] = strides[axis]! * step;
    }
    return strided(data, site.output.shape, strides, first);
  },
  Transpose: (site) => {
    const data = site.constant(0);
    if (data === undefined) return undefined;
    const strides = stridesOf(data.shape);
    const turned = permutationOf(site.node, data.shape.length).map((axis) => strides[axis]!);
    return strided(data, site.output.shape, turned);
  },
  Expand: (site) => {
    const data = site.constant(0);
    return data === undefined ? undefined : stretched(data, site.output.shape);
  },
  Tile: (site) => {
    const [data, repeats] = [site.constant(0), site.integers(1)];
    if (data === undefined || repeats === undefined) return undefined;
    const strides = stridesOf(data.shape);
    const apart = data.shape.flatMap((size, axis) => [repeats[axis]!, size]);
    return strided(
      data,
      apart,
      strides.flatMap((stride) => [0, stride]),
    );
  },
  Where: (site) => {
    const all = constantsOf(site);
    const chosen = roomFor(site);
    if (all === undefined || chosen === undefined) return undefined;
    if (all[1]!.elemType !== all[2]!.elemType) return undefined;
    const [condition, yes, no] = all.map((constant) => stretched(constant, site.output.shape));
    for (let at = 0; at < chosen.length; at++) chosen[at] = condition![at] === 1 ? yes![at]! : no![at]!;
    // onnxruntime makes 0 of a -0 that is chosen.
    for (const value of chosen) if (Object.is(value, -0)) return undefined;
    return chosen;
  },
  Trilu: (site) => {
    const data = site.constant(0);
    const kept = roomFor(site);
    const diagonal = (site.node.input[1] ?? '') === '' ? 0 : site.integers(1)?.[0];
    if (data === undefined || kept === undefined || diagonal === undefined) return undefined;
    const [rows, columns] = data.shape.slice(-2) as [number, number];
    const isUpper = intAttribute(site.node, 'upper', 1) === 1;
    for (let at = 0; at < kept.length; at++) {
      const right = (at % columns) - (Math.floor(at / columns) % rows);
      if (isUpper ? right >= diagonal : right <= diagonal) kept[at] = data.data[at]!;
    }
    return kept;
  },
};

/** Which number of the reduced tensor each number of the whole one goes into. */
export function targetsOf(shape: readonly number[], axes: readonly number[]): Int32Array {
  const kept = shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
  const indices = { shape: kept, elemType: 6, data: Int32Array.from({ length: sizeOf(kept) }, (_, index) => index) };
  return strided(indices, shape, stretchedStrides(kept, shape)) as Int32Array;
}

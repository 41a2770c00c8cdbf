import { findAttribute, intAttribute } from './nodes.ts';
import { cutsOf } from './slices.ts';
import type { ShapeSite } from './shape-rule.ts';
import { integerValues } from './tensor-data.ts';
import { permutationOf } from './shapes.ts';
import { sizeOf, stridesOf, wrapAxis } from '../tensor/shape.ts';
import type { Shape } from '../tensor/shape.ts';

/** Beyond this a list of integers is data and no shape. */
export const lengthMax = 1024;

/**
 * The numbers of a node's first output where they follow from shapes and constants: exporters write Shape, Gather, Concat and the like in
 * front of a Reshape, and all of them are known once the batch is. Undefined where they are known only at run time.
 */
export function foldIntegers(site: ShapeSite): readonly number[] | undefined {
  const fold = Object.hasOwn(folds, site.node.opType) ? folds[site.node.opType] : undefined;
  const folded = fold?.(site);
  return folded !== undefined && folded.length <= lengthMax && folded.every(Number.isFinite) ? folded : undefined;
}

const laysOut: readonly string[] = ['Identity', 'Cast', 'Squeeze', 'Unsqueeze', 'Reshape', 'Concat'];

/** The numbers of a float output that only lays out constants anew, as exporters write the scales of a Resize. */
export function foldFloats(site: ShapeSite): readonly number[] | undefined {
  if (!laysOut.includes(site.node.opType)) return undefined;
  const parts = site.node.opType === 'Concat' ? site.inputs.map((_, position) => position) : [0];
  const lists = parts.map((position) => site.floats(position) ?? site.integers(position));
  if (lists.some((list) => list === undefined)) return undefined;
  const folded = lists.flatMap((list) => [...list!]);
  return folded.length <= lengthMax ? folded : undefined;
}

type Fold = (site: ShapeSite) => readonly number[] | undefined;

const same: Fold = (site) => site.integers(0);

const arithmetic =
  (combine: (a: number, b: number) => number): Fold =>
  (site) => {
    const [a, b] = [site.integers(0), site.integers(1)];
    if (a === undefined || b === undefined) return undefined;
    if (a.length !== b.length && a.length !== 1 && b.length !== 1) return undefined;
    const at = (list: readonly number[], index: number): number => list[list.length === 1 ? 0 : index]!;
    return Array.from({ length: Math.max(a.length, b.length) }, (_, index) => combine(at(a, index), at(b, index)));
  };

/** Numbers of a new shape, each taken from a place of the first input. */
function picked(site: ShapeSite, shape: Shape, from: (place: number[]) => number[]): number[] | undefined {
  const list = site.integers(0);
  if (list === undefined || sizeOf(shape) > lengthMax) return undefined;
  const [strides, own] = [stridesOf(shape), stridesOf(site.inputs[0]!.shape)];
  return Array.from({ length: sizeOf(shape) }, (_, index) => {
    const place = shape.map((size, axis) => Math.floor(index / strides[axis]!) % size);
    return list[from(place).reduce((sum, at, axis) => sum + at * own[axis]!, 0)]!;
  });
}

const folds: Readonly<Record<string, Fold>> = {
  Shape: ({ node, inputs }) => {
    const { shape } = inputs[0]!;
    return shape.slice(intAttribute(node, 'start', 0), intAttribute(node, 'end', shape.length));
  },
  Size: ({ inputs }) => [inputs[0]!.shape.reduce((product, size) => product * size, 1)],
  ConstantOfShape: ({ node, inputs, integers }) => {
    const value = findAttribute(node, 'value')?.t;
    const sizes = integers(0);
    if (sizes === undefined || value === undefined || inputs[0]!.shape[0] !== sizes.length) return undefined;
    const length = sizes.reduce((product, size) => product * size, 1);
    return length <= lengthMax ? Array.from({ length }, () => integerValues(value)[0] ?? 0) : undefined;
  },
  Range: (site) => {
    const [start, limit, step] = [site.integers(0)?.[0], site.integers(1)?.[0], site.integers(2)?.[0]];
    if (start === undefined || limit === undefined || step === undefined) return undefined;
    const length = Math.max(0, Math.ceil((limit - start) / step));
    return length <= lengthMax ? Array.from({ length }, (_, index) => start + index * step) : undefined;
  },
  Identity: same,
  Cast: same,
  Squeeze: same,
  Unsqueeze: same,
  Reshape: same,
  Gather: (site) => {
    const [list, places] = [site.integers(0), site.integers(1)];
    if (list === undefined || places === undefined || site.inputs[0]!.shape.length !== 1) return undefined;
    return places.map((place) => list[wrapAxis(place, list.length)]!);
  },
  Slice: (site) => {
    const cuts = cutsOf(site);
    const { shape } = site.inputs[0]!;
    const taken = shape.map((size, axis) => cuts.find((cut) => cut.axis === axis)?.length ?? size);
    return picked(site, taken, (place) => {
      const spot = [...place];
      for (const { axis, start, step } of cuts) spot[axis] = start + place[axis]! * step;
      return spot;
    });
  },
  Transpose: (site) => {
    const { shape } = site.inputs[0]!;
    const perm = permutationOf(site.node, shape.length);
    const turned = perm.map((axis) => shape[axis]!);
    return picked(site, turned, (place) => shape.map((_, axis) => place[perm.indexOf(axis)]!));
  },
  Concat: (site) => {
    const parts = site.inputs.map((_, position) => site.integers(position));
    return parts.every((part) => part !== undefined) ? parts.flat() : undefined;
  },
  Add: arithmetic((a, b) => a + b),
  Sub: arithmetic((a, b) => a - b),
  Mul: arithmetic((a, b) => a * b),
  Div: arithmetic((a, b) => Math.trunc(a / b)),
  // With the sign of the divisor, or with fmod=1 of the dividend.
  Mod: (site) =>
    arithmetic((a, b) => (intAttribute(site.node, 'fmod', 0) === 1 ? a % b : a - b * Math.floor(a / b)))(site),
  Min: arithmetic(Math.min),
  Max: arithmetic(Math.max),
  Equal: arithmetic((a, b) => Number(a === b)),
  Less: arithmetic((a, b) => Number(a < b)),
  Greater: arithmetic((a, b) => Number(a > b)),
  And: arithmetic((a, b) => a & b),
  Or: arithmetic((a, b) => a | b),
  Not: (site) => site.integers(0)?.map((value) => 1 - value),
  Where: (site) => {
    const [condition, a, b] = [site.integers(0), site.integers(1), site.integers(2)];
    if (condition === undefined || a === undefined || b === undefined) return undefined;
    const length = Math.max(condition.length, a.length, b.length);
    const at = (list: readonly number[], index: number): number => list[list.length === 1 ? 0 : index] ?? Number.NaN;
    return Array.from({ length }, (_, index) => (at(condition, index) === 1 ? at(a, index) : at(b, index)));
  },
  ReduceProd: (site) => {
    const list = site.integers(0);
    return list === undefined ? undefined : [list.reduce((product, value) => product * value, 1)];
  },
};

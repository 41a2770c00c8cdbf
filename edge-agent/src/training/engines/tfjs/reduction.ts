import { intAttribute, intsAttribute } from '@commonweight/core';
import {
  flat,
  input,
  integers,
  wrap,
  type Operator,
  type OperatorSite,
  type OperatorTable,
  type Tensor,
  type TfLibrary,
} from './operator.ts';

const reduced =
  (of: (tf: TfLibrary, x: Tensor, axes: number[], keeps: boolean) => Tensor): Operator =>
  (site) => {
    const x = input(site, 0);
    const axes = axesOf(site, x);
    if (axes.length === 0) return x;
    return of(site.tf, x, axes, intAttribute(site.node, 'keepdims', 1) === 1);
  };

/** By attribute or as an input; without any, all of them. */
function axesOf(site: OperatorSite, { rank }: Tensor): number[] {
  const given = intsAttribute(site.node, 'axes') ?? integers(site, 1);
  const isAll = given === undefined || given.length === 0;
  if (isAll && intAttribute(site.node, 'noop_with_empty_axes', 0) === 1) return [];
  return isAll ? Array.from({ length: rank }, (_, axis) => axis) : given.map((axis) => wrap(axis, rank));
}

/** Sums, means and the like. */
export const reduction: OperatorTable = {
  ReduceSum: reduced((tf, x, axes, keeps) => tf.sum(x, axes, keeps)),
  ReduceMean: reduced((tf, x, axes, keeps) => tf.mean(x, axes, keeps)),
  ReduceMax: reduced((tf, x, axes, keeps) => tf.max(x, axes, keeps)),
  ReduceMin: reduced((tf, x, axes, keeps) => tf.min(x, axes, keeps)),
  // One factor after the other: there are few, and its own gradient does not run in Node.
  ReduceProd: reduced((tf, x, axes, keeps) => {
    const others = x.shape.flatMap((_, axis) => (axes.includes(axis) ? [] : [axis]));
    const last = tf.transpose(x, [...others, ...axes]);
    const count = axes.reduce((product, axis) => product * x.shape[axis]!, 1);
    const sizes = others.map((axis) => x.shape[axis]!);
    const rows = tf.reshape(last, [x.size / count, count]);
    const factors = Array.from({ length: count }, (_, at) => tf.slice(rows, [0, at], [rows.shape[0]!, 1]));
    const product = factors.reduce((sofar, factor) => tf.mul(sofar, factor));
    const kept = x.shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
    return tf.reshape(product, keeps ? kept : sizes);
  }),
  ReduceL1: reduced((tf, x, axes, keeps) => tf.sum(tf.abs(x), axes, keeps)),
  // A root's slope at zero is none, and 0 is what others take for it.
  ReduceL2: reduced((tf, x, axes, keeps) => {
    const squares = tf.sum(tf.square(x), axes, keeps);
    const isZero = flat({ tf }, (sum) => tf.cast(tf.equal(sum!, 0), 'float32'), squares);
    return tf.mul(tf.sqrt(tf.add(squares, isZero)), tf.sub(1, isZero));
  }),
  ReduceLogSum: reduced((tf, x, axes, keeps) => tf.log(tf.sum(x, axes, keeps))),
  ReduceLogSumExp: reduced((tf, x, axes, keeps) => tf.logSumExp(x, axes, keeps)),
  ReduceSumSquare: reduced((tf, x, axes, keeps) => tf.sum(tf.square(x), axes, keeps)),
};

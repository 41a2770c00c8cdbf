import { intAttribute, stringAttribute } from '@commonweight/core';
import {
  alongLast,
  floats,
  input,
  integers,
  lacks,
  wrap,
  type Operator,
  type OperatorSite,
  type OperatorTable,
  type Tensor,
  type TfLibrary,
} from './operator.ts';

/** What takes numbers by their places and puts them there. */
export const indexing: OperatorTable = {
  Gather: (site) => {
    const x = input(site, 0);
    const axis = wrap(intAttribute(site.node, 'axis', 0), x.rank);
    return site.tf.gather(x, within(site, input(site, 1), x.shape[axis]!), axis);
  },
  GatherElements: (site) => {
    const { tf } = site;
    const x = input(site, 0);
    return tf.gather(tf.reshape(x, [x.size]), elementPlaces(site, x, input(site, 1)));
  },
  GatherND: (site) => {
    const { tf, graph, node } = site;
    const x = input(site, 0);
    const { places, size } = slicePlaces(site, x, input(site, 1), intAttribute(node, 'batch_dims', 0));
    const rows = tf.reshape(x, [x.size / size, size]);
    return tf.reshape(tf.gather(rows, places), [...graph.shapeOf(node.output[0]!)]);
  },
  ScatterElements: (site) => {
    const { tf } = site;
    const [x, updates] = [input(site, 0), input(site, 2)];
    const places = elementPlaces(site, x, input(site, 1));
    return put(site, x, tf.reshape(places, [places.size]), tf.reshape(updates, [updates.size, 1]), 1);
  },
  ScatterND: (site) => {
    const { tf } = site;
    const [x, updates] = [input(site, 0), input(site, 2)];
    const { places, size } = slicePlaces(site, x, input(site, 1), 0);
    return put(site, x, tf.reshape(places, [places.size]), tf.reshape(updates, [places.size, size]), size);
  },
  OneHot: (site) => {
    const { tf, node } = site;
    const [depth] = integers(site, 1) ?? lacks(site, 'of a depth that is computed');
    const [off = 0, on = 1] = floats(site, 2) ?? lacks(site, 'of values that are computed');
    // Backends differ in what they make of values that are no whole numbers.
    const places = tf.cast(tf.oneHot(tf.cast(within(site, input(site, 0), depth!), 'int32'), depth!), 'float32');
    const marks = tf.add(tf.mul(places, on - off), off);
    const axis = wrap(intAttribute(node, 'axis', -1), marks.rank);
    if (axis === marks.rank - 1) return marks;
    const perm = Array.from({ length: marks.rank - 1 }, (_, at) => at);
    perm.splice(axis, 0, marks.rank - 1);
    return tf.transpose(marks, perm);
  },
  ArgMax: place((tf, x, axis) => tf.argMax(x, axis)),
  ArgMin: place((tf, x, axis) => tf.argMin(x, axis)),
  TopK: (site) => {
    const { tf, node } = site;
    const x = input(site, 0);
    const [k] = integers(site, 1) ?? lacks(site, 'of a number that is computed');
    const axis = wrap(intAttribute(node, 'axis', -1), x.rank);
    if (intAttribute(node, 'largest', 1) !== 1) return lacks(site, 'of the smallest');
    const of = (part: 'values' | 'indices'): Tensor => alongLast(site, x, axis, (turned) => tf.topk(turned, k!)[part]);
    return [of('values'), of('indices')];
  },
};

/** Where along an axis the number is that is sought. */
function place(of: (tf: TfLibrary, x: Tensor, axis: number) => Tensor): Operator {
  return (site) => {
    const x = input(site, 0);
    const axis = wrap(intAttribute(site.node, 'axis', 0), x.rank);
    const places = of(site.tf, x, axis);
    return intAttribute(site.node, 'keepdims', 1) === 1 ? site.tf.expandDims(places, axis) : places;
  };
}

/** ONNX counts from the back below zero. */
function within({ tf }: OperatorSite, places: Tensor, size: number): Tensor {
  const whole = tf.cast(places, 'int32');
  return tf.cast(tf.add(whole, tf.mul(tf.cast(tf.less(whole, 0), 'int32'), tf.scalar(size, 'int32'))), 'int32');
}

const stridesOf = (shape: readonly number[]): number[] =>
  shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));

/** For each number of `indices` its place among all numbers of x: its own coordinates, but the index along the axis. */
function elementPlaces(site: OperatorSite, x: Tensor, indices: Tensor): Tensor {
  const { tf, node } = site;
  const axis = wrap(intAttribute(node, 'axis', 0), x.rank);
  const [strides, own] = [stridesOf(x.shape), stridesOf(indices.shape)];
  const others = Int32Array.from({ length: indices.size }, (_, at) =>
    indices.shape.reduce(
      (place, size, of) => place + (of === axis ? 0 : (Math.floor(at / own[of]!) % size) * strides[of]!),
      0,
    ),
  );
  const along = tf.mul(within(site, indices, x.shape[axis]!), tf.scalar(strides[axis]!, 'int32'));
  return tf.cast(tf.add(along, tf.tensor(others, indices.shape, 'int32')), 'int32');
}

/** For each list of indices the place of the slice that it names, and how large slices are. */
function slicePlaces(
  site: OperatorSite,
  x: Tensor,
  indices: Tensor,
  batchDims: number,
): { places: Tensor; size: number } {
  const { tf } = site;
  const depth = indices.shape.at(-1)!;
  const known = batchDims + depth;
  const strides = stridesOf(x.shape.slice(0, known));
  const size = x.shape.slice(known).reduce((product, length) => product * length, 1);
  const lists = tf.reshape(tf.cast(indices, 'int32'), [indices.size / depth, depth]);
  const parts = Array.from({ length: depth }, (_, at) => {
    const column = tf.reshape(tf.slice(lists, [0, at], [lists.shape[0]!, 1]), [lists.shape[0]!]);
    return tf.mul(within(site, column, x.shape[batchDims + at]!), tf.scalar(strides[batchDims + at]!, 'int32'));
  });
  const batch = indices.shape.slice(0, batchDims);
  const [perBatch, batchStrides] = [indices.size / depth / batch.reduce((a, b) => a * b, 1), stridesOf(batch)];
  const offsets = Int32Array.from({ length: indices.size / depth }, (_, row) => {
    const index = Math.floor(row / perBatch);
    return batch.reduce(
      (sum, length, axis) => sum + (Math.floor(index / batchStrides[axis]!) % length) * strides[axis]!,
      0,
    );
  });
  const places = parts.reduce((sum, part) => tf.add(sum, part), tf.tensor1d(offsets, 'int32') as Tensor);
  return { places: tf.cast(places, 'int32'), size };
}

/** Rows of `size` numbers put, or added, at places; tf.unsortedSegmentSum has a gradient, as a scatter has not. */
function put(site: OperatorSite, x: Tensor, places: Tensor, rows: Tensor, size: number): Tensor {
  const { tf, node } = site;
  const count = x.size / size;
  const reduction = stringAttribute(node, 'reduction', 'none');
  if (reduction !== 'none' && reduction !== 'add') return lacks(site, `with reduction ${reduction}`);
  const sums = tf.unsortedSegmentSum(rows, places as never, count);
  const flat = tf.reshape(x, [count, size]);
  if (reduction === 'add') return tf.reshape(tf.add(flat, sums), x.shape);
  const marks = tf.unsortedSegmentSum(tf.ones([places.size, 1]), places as never, count);
  return tf.reshape(tf.add(tf.mul(flat, tf.sub(1, marks)), sums), x.shape);
}

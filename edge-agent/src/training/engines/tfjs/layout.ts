import {
  cutsOf,
  intAttribute,
  intsAttribute,
  padMatrix,
  resizedAxes,
  resizeMatrix,
  stringAttribute,
} from '@commonweight/core';
import {
  alongLast,
  floats,
  input,
  integers,
  lacks,
  outputShape,
  stretched,
  wrap,
  type Operator,
  type OperatorSite,
  type OperatorTable,
  type Tensor,
} from './operator.ts';

/** The same numbers in another shape, which is known. */
const reshaped: Operator = (site) => site.tf.reshape(input(site, 0), outputShape(site));

/** What lays numbers out anew, repeats them or leaves some out. */
export const layout: OperatorTable = {
  Reshape: reshaped,
  Flatten: reshaped,
  Squeeze: reshaped,
  Unsqueeze: reshaped,
  Expand: (site) => stretched(site, input(site, 0), outputShape(site)),
  Transpose: (site) => {
    const x = input(site, 0);
    const perm = intsAttribute(site.node, 'perm') ?? Array.from({ length: x.rank }, (_, axis) => x.rank - 1 - axis);
    return site.tf.transpose(x, perm);
  },
  Concat: (site) => {
    const parts = site.inputs.map((_, position) => input(site, position));
    return site.tf.concat(parts, wrap(intAttribute(site.node, 'axis', 0), parts[0]!.rank));
  },
  Split: (site) => {
    const x = input(site, 0);
    const axis = wrap(intAttribute(site.node, 'axis', 0), x.rank);
    const sizes = site.node.output.map((_, position) => outputShape(site, position)[axis]!);
    return site.tf.split(x, sizes, axis);
  },
  Slice: (site) => {
    const { tf, graph, node } = site;
    let x = input(site, 0);
    for (const { axis, start, step, length } of cutsOf(graph.site(node))) {
      if (step === 1) {
        const [begin, size] = [x.shape.map(() => 0), [...x.shape]];
        [begin[axis], size[axis]] = [start, length];
        x = tf.slice(x, begin, size);
      } else
        x = tf.gather(
          x,
          tf.tensor1d(
            Array.from({ length }, (_, at) => start + at * step),
            'int32',
          ),
          axis,
        );
    }
    return x;
  },
  Tile: (site) => {
    const repeats = integers(site, 1) ?? lacks(site, 'by numbers that are computed');
    return repeats.reduce(
      (x, count, axis) =>
        count === 1
          ? x
          : site.tf.concat(
              Array.from({ length: count }, () => x),
              axis,
            ),
      input(site, 0),
    );
  },
  Pad: (site) => {
    const { tf, node } = site;
    const pads = integers(site, 1) ?? lacks(site, 'by numbers that are computed');
    const mode = stringAttribute(node, 'mode', 'constant');
    const x = input(site, 0);
    const sides = x.shape.map((_, axis): [number, number] => [pads[axis]!, pads[axis + x.rank]!]);
    if (mode !== 'constant') {
      return sides.reduce((part, [before, after], axis) => {
        if (before + after === 0) return part;
        return through(site, part, axis, padMatrix(node, mode, x.shape[axis]!, before, after));
      }, x);
    }
    const added = sides.map(([before, after]): [number, number] => [Math.max(0, before), Math.max(0, after)]);
    const value =
      site.inputs[2] === undefined ? 0 : (floats(site, 2)?.[0] ?? lacks(site, 'with a value that is computed'));
    const long = added.some((side) => side.some((pad) => pad > 0)) ? tf.pad(x, added, value) : x;
    if (sides.every((side) => side.every((pad) => pad >= 0))) return long;
    return tf.slice(
      long,
      sides.map(([before]) => Math.max(0, -before)),
      outputShape(site),
    );
  },
  Resize: (site) => {
    const { graph, node } = site;
    const { sizes, scales } = resizedAxes(graph.site(node));
    return sizes.reduce(
      (x, size, axis) => {
        if (x.shape[axis] === size && scales[axis] === 1) return x;
        return through(site, x, axis, resizeMatrix(node, x.shape[axis]!, size, scales[axis]!));
      },
      input(site, 0),
    );
  },
  CumSum: (site) => {
    const { tf, node } = site;
    const x = input(site, 0);
    const [axis] = integers(site, 1) ?? lacks(site, 'along an axis that is computed');
    const flags = ['exclusive', 'reverse'].map((name) => intAttribute(node, name, 0) === 1);
    // Its gradient is right along the last axis alone.
    return alongLast(site, x, wrap(axis!, x.rank), (turned) => tf.cumsum(turned, turned.rank - 1, flags[0], flags[1]));
  },
  Trilu: (site) => {
    const { tf, node } = site;
    const x = input(site, 0);
    const [rows, columns] = [x.shape.at(-2)!, x.shape.at(-1)!];
    const isUpper = intAttribute(node, 'upper', 1) === 1;
    const offset =
      site.inputs[1] === undefined ? 0 : (integers(site, 1)?.[0] ?? lacks(site, 'at a place that is computed'));
    const mask = Float32Array.from({ length: rows * columns }, (_, at) => {
      const beyond = (at % columns) - Math.floor(at / columns) - offset;
      return (isUpper ? beyond >= 0 : beyond <= 0) ? 1 : 0;
    });
    return tf.mul(x, tf.tensor2d(mask, [rows, columns]));
  },
};

/** A linear map along one axis. */
function through(
  site: OperatorSite,
  x: Tensor,
  axis: number,
  { rows, columns, values }: ReturnType<typeof resizeMatrix>,
): Tensor {
  const { tf } = site;
  return alongLast(site, x, axis, (turned) => {
    const flat = tf.reshape(turned, [turned.size / columns, columns]);
    const product = tf.matMul(flat, tf.tensor2d(values, [rows, columns]), false, true);
    return tf.reshape(product, [...turned.shape.slice(0, -1), rows]);
  });
}

import { intAttribute, windowsOf, type Windows } from '@commonweight/core';
import { channelsLast, channelsSecond, withBorder } from './convolution.ts';
import { input, lacks, type OperatorSite, type OperatorTable, type Tensor } from './operator.ts';

/** Pooling. */
export const pooling: OperatorTable = {
  MaxPool: (site) => {
    const { windows, image } = opened(site);
    if (windows.dilations.some((dilation) => dilation !== 1)) return lacks(site, 'with dilations');
    return closed(site, pooled(site, 'max', withBorder(site, image, windows, -3.4e38), windows));
  },
  AveragePool: (site) => {
    const { tf, node } = site;
    const { windows, image } = opened(site);
    if (windows.dilations.some((dilation) => dilation !== 1)) return lacks(site, 'with dilations');
    const means = pooled(site, 'avg', withBorder(site, image, windows), windows);
    const countsBorder = intAttribute(node, 'count_include_pad', 0) === 1;
    if (countsBorder) return closed(site, means);
    // What share of each window lies inside of the image.
    const ones = tf.ones([1, ...image.shape.slice(1, -1), 1]);
    return closed(site, tf.div(means, pooled(site, 'avg', withBorder(site, ones, windows), windows)));
  },
  GlobalAveragePool: (site) => {
    const x = input(site, 0);
    return site.tf.mean(
      x,
      Array.from({ length: x.rank - 2 }, (_, axis) => axis + 2),
      true,
    );
  },
};

function opened(site: OperatorSite): { windows: Windows; image: Tensor } {
  const x = input(site, 0);
  if (x.rank < 3 || x.rank > 5) return lacks(site, `of ${x.rank - 2} dimensions`);
  return { windows: windowsOf(site.node, x.shape.slice(2)), image: channelsLast(site, x) };
}

const closed = (site: OperatorSite, x: Tensor): Tensor => channelsSecond(site, x);

/** Windows of any dimensions: of three, first those of each slice, then those along the slices. */
function pooled({ tf }: OperatorSite, kind: 'max' | 'avg', x: Tensor, { kernel, strides }: Windows): Tensor {
  const flat = (image: Tensor, sizes: readonly number[], steps: readonly number[]): Tensor => {
    const [window, step] = [sizes, steps] as [[number, number], [number, number]];
    return kind === 'max'
      ? tf.maxPool(image as never, window, step, 'valid')
      : tf.avgPool(image as never, window, step, 'valid');
  };
  if (x.rank === 4) return flat(x, kernel, strides);
  if (x.rank === 3) return tf.squeeze(flat(tf.expandDims(x, 1), [1, ...kernel], [1, ...strides]), [1]);
  const [batch, depth, height, width, channels] = x.shape as [number, number, number, number, number];
  const slices = flat(tf.reshape(x, [batch * depth, height, width, channels]), kernel.slice(1), strides.slice(1));
  const [, rows, columns] = slices.shape as [number, number, number];
  const columnsOfSlices = tf.reshape(slices, [batch, depth, rows * columns, channels]);
  const result = flat(columnsOfSlices, [kernel[0]!, 1], [strides[0]!, 1]);
  return tf.reshape(result, [batch, result.shape[1]!, rows, columns, channels]);
}

import { intAttribute, transposedWindowsOf, windowsOf, type Windows } from '@commonweight/core';
import { input, lacks, outputShape, type OperatorSite, type OperatorTable, type Tensor } from './operator.ts';

/** Convolutions. Here images lie [batch, ..., channels] and kernels [..., channels, filters]; in ONNX channels come second, filters first. */
export const convolution: OperatorTable = {
  Conv: (site) => {
    const { tf, node, inputs } = site;
    const [image, kernel] = [input(site, 0), input(site, 1)];
    const windows = windowsOf(node, image.shape.slice(2), kernel.shape.slice(2));
    const { rank } = image;
    if (rank < 3 || rank > 5) return lacks(site, `of ${rank - 2} dimensions`);
    const padded = withBorder(site, channelsLast(site, image), windows);
    const turned = tf.transpose(kernel, [...spatialAxes(rank), 1, 0]);
    const result = convolved(site, padded, turned, windows);
    const withBias = inputs[2] === undefined ? result : tf.add(result, inputs[2]);
    return channelsSecond(site, withBias);
  },
  ConvTranspose: (site) => {
    const { tf, node, inputs } = site;
    const [image, kernel] = [input(site, 0), input(site, 1)];
    const windows = transposedWindowsOf(node, image.shape.slice(2), kernel.shape.slice(2));
    const { rank } = image;
    if (rank !== 3 && rank !== 4) return lacks(site, `of ${rank - 2} dimensions`);
    if (windows.dilations.some((dilation) => dilation !== 1)) return lacks(site, 'with dilations');
    const flat = rank === 3;
    const last = channelsLast(site, image);
    // [channels, filters, ...] -> [..., filters, channels]
    const turned = tf.transpose(kernel, [...spatialAxes(rank), 1, 0]);
    const groups = intAttribute(node, 'group', 1);
    const images = grouped(site, flat ? tf.expandDims(last, 1) : last, groups);
    const kernels = grouped(site, flat ? tf.expandDims(turned, 0) : turned, groups);
    const [strides, kernelSizes, sizes] = [windows.strides, windows.kernel, image.shape.slice(2)].map((list) =>
      flat ? [1, ...list] : [...list],
    ) as [number[], number[], number[]];
    // All that is spread, border included, of which the paddings are cut then.
    const full = sizes.map((size, axis) => (size - 1) * strides[axis]! + kernelSizes[axis]!) as [number, number];
    const parts = images.map((part, group): Tensor => {
      const shape = [image.shape[0]!, ...full, kernels[group]!.shape[2]!] as [number, number, number, number];
      return tf.conv2dTranspose(part as never, kernels[group] as never, shape, strides as [number, number], 'valid');
    });
    const whole = parts.length === 1 ? parts[0]! : tf.concat(parts, 3);
    const result = fitted(site, flat ? tf.squeeze(whole, [1]) : whole, windows);
    return channelsSecond(site, inputs[2] === undefined ? result : tf.add(result, inputs[2]));
  },
};

/** The channels, which come last, in as many parts. */
const grouped = ({ tf }: OperatorSite, x: Tensor, groups: number): Tensor[] =>
  groups === 1 ? [x] : tf.split(x, groups, x.rank - 1);

const spatialAxes = (rank: number): number[] => Array.from({ length: rank - 2 }, (_, axis) => axis + 2);

export const channelsLast = ({ tf }: OperatorSite, x: Tensor): Tensor =>
  tf.transpose(x, [0, ...spatialAxes(x.rank), 1]);

export const channelsSecond = ({ tf }: OperatorSite, x: Tensor): Tensor =>
  tf.transpose(x, [0, x.rank - 1, ...spatialAxes(x.rank).map((axis) => axis - 1)]);

/** An image with channels last, and a border that every window fits into. */
export function withBorder({ tf }: OperatorSite, image: Tensor, windows: Windows, value = 0): Tensor {
  const { kernel, strides, dilations, padsBefore, output } = windows;
  const pads = output.map((size, axis): [number, number] => {
    const end = (size - 1) * strides[axis]! + (kernel[axis]! - 1) * dilations[axis]! + 1;
    return [padsBefore[axis]!, Math.max(0, end - padsBefore[axis]! - image.shape[axis + 1]!)];
  });
  if (pads.every(([before, after]) => before + after === 0)) return image;
  return tf.pad(image, [[0, 0], ...pads, [0, 0]], value);
}

function convolved(site: OperatorSite, image: Tensor, kernel: Tensor, { strides, dilations }: Windows): Tensor {
  const { tf, node } = site;
  const groups = intAttribute(node, 'group', 1);
  const { rank } = image;
  if (rank === 5) {
    if (dilations.some((dilation) => dilation !== 1)) return lacks(site, 'in three dimensions with dilations');
    const parts = grouped(site, kernel, groups);
    return tf.concat(
      tf
        .split(image, groups, -1)
        .map((part, group) =>
          tf.conv3d(part as never, parts[group] as never, [...strides] as [number, number, number], 'valid'),
        ),
      -1,
    );
  }
  const isFlat = rank === 3;
  const [x, w] = isFlat ? [tf.expandDims(image, 1), tf.expandDims(kernel, 0)] : [image, kernel];
  const [step, spread] = [strides, dilations].map((list) => (isFlat ? [1, ...list] : [...list])) as [
    [number, number],
    [number, number],
  ];
  const isStepped = step.some((stride) => stride !== 1) && spread.some((dilation) => dilation !== 1);
  if (isStepped) return lacks(site, 'with strides and dilations at once');
  const parts = grouped(site, w, groups);
  const results = grouped(site, x, groups).map(
    (part, group) => tf.conv2d(part as never, parts[group] as never, step, 'valid', 'NHWC', spread) as Tensor,
  );
  const result = results.length === 1 ? results[0]! : tf.concat(results, -1);
  return isFlat ? tf.squeeze(result, [1]) : result;
}

/** Cuts the paddings of a transposed convolution off, or adds what the output has behind the last window. */
function fitted(site: OperatorSite, x: Tensor, { padsBefore }: Windows): Tensor {
  const { tf } = site;
  const wanted = outputShape(site).slice(2);
  const missing = wanted.map((size, axis) => Math.max(0, size + padsBefore[axis]! - x.shape[axis + 1]!));
  const long = missing.some((size) => size > 0)
    ? tf.pad(x, [[0, 0], ...missing.map((size): [number, number] => [0, size]), [0, 0]])
    : x;
  return tf.slice(long, [0, ...padsBefore, 0], [x.shape[0]!, ...wanted, x.shape.at(-1)!]);
}

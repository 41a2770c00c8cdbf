import type { KernelConfig, Tensor, Tensor4D, TensorInfo } from '@tensorflow/tfjs-core';
import type { TfLibrary } from './operator.ts';

/** What a kernel is handed. */
interface KernelCall {
  inputs: Record<string, TensorInfo>;
  attrs: Record<string, unknown>;
}

/**
 * Kernels that gradients need and the WebAssembly backend lacks or has wrong, made of others: without the first it could train no
 * convolution, without the second no embedding.
 */
export function addWasmKernels(tf: TfLibrary): void {
  const tensor = (info: TensorInfo): Tensor =>
    tf
      .engine()
      .makeTensorFromTensorInfo(info as Parameters<ReturnType<TfLibrary['engine']>['makeTensorFromTensorInfo']>[0]);
  const kernels: Record<string, (call: KernelCall) => Tensor> = {
    // The image convolved with the output's gradient, batch and channels swapped; strides become dilations.
    Conv2DBackpropFilter: ({ inputs, attrs }) => {
      const [x, dy] = [tensor(inputs['x']!) as Tensor4D, tensor(inputs['dy']!) as Tensor4D];
      const strides = pairOf(attrs['strides'] as number | [number, number]);
      const [height, width] = attrs['filterShape'] as [number, number, number, number];
      const padded = tf.pad(x, padsOf(attrs['pad'] as Pad, x, dy, strides, [height, width]));
      const image = tf.transpose(padded, [3, 1, 2, 0]);
      const kernel = tf.transpose(dy, [1, 2, 0, 3]) as Tensor4D;
      const long = tf.conv2d(image as Tensor4D, kernel, 1, 'valid', 'NHWC', strides);
      // Pixels that no window reached make the result longer than the kernel.
      const [filters, channels] = [dy.shape[3], x.shape[3]];
      return tf.transpose(tf.slice(long, [0, 0, 0, 0], [channels, height, width, filters]), [1, 2, 0, 3]);
    },
    UnsortedSegmentSum: ({ inputs, attrs }) => {
      const [x, ids] = [tensor(inputs['x']!), tensor(inputs['segmentIds']!)];
      const count = attrs['numSegments'] as number;
      return tf.scatterND(tf.reshape(ids, [ids.size, 1]), x, [count, ...x.shape.slice(1)]);
    },
    // The backend's own forgets windows whose largest number is below zero. Here all borders are written by Pad.
    MaxPoolGrad: ({ inputs, attrs }) => {
      const [x, y, dy] = ['input', 'output', 'dy'].map((name) => tensor(inputs[name]!)) as [
        Tensor4D,
        Tensor4D,
        Tensor4D,
      ];
      const [rows, columns] = pairOf(attrs['filterSize'] as number | [number, number]);
      const strides = pairOf(attrs['strides'] as number | [number, number]);
      const [batch, height, width, channels] = y.shape;
      let found: Tensor = tf.zeros(y.shape);
      let places: Tensor = tf.zeros(y.shape);
      for (let tap = 0; tap < rows * columns; tap++) {
        const [row, column] = [Math.floor(tap / columns), tap % columns];
        const end = [batch, row + (height - 1) * strides[0] + 1, column + (width - 1) * strides[1] + 1, channels];
        const numbers = tf.stridedSlice(x, [0, row, column, 0], end, [1, ...strides, 1]);
        const isFirst = tf.mul(tf.cast(tf.equal(numbers, y), 'float32'), tf.sub(1, found));
        found = tf.add(found, isFirst);
        places = tf.add(places, tf.mul(isFirst, (row * x.shape[2] + column) * channels));
      }
      const first = tf.tensor(firstPlaces(x.shape, y.shape, strides), [y.size], 'int32');
      const all = tf.add(first, tf.cast(tf.reshape(places, [y.size]), 'int32'));
      return tf.reshape(tf.scatterND(tf.reshape(all, [y.size, 1]), tf.reshape(dy, [y.size]), [x.size]), x.shape);
    },
  };
  for (const [kernelName, kernelFunc] of Object.entries(kernels)) {
    if (tf.getKernel(kernelName, 'wasm') !== undefined) tf.unregisterKernel(kernelName, 'wasm');
    tf.registerKernel({
      kernelName,
      backendName: 'wasm',
      kernelFunc: kernelFunc as unknown as KernelConfig['kernelFunc'],
    });
  }
}

type Shape4D = [number, number, number, number];

/** Where the window of each output number begins, among all numbers of the image. */
function firstPlaces(
  [, rows, columns]: Shape4D,
  [batch, height, width, channels]: Shape4D,
  strides: [number, number],
): Int32Array {
  const places = new Int32Array(batch * height * width * channels);
  let at = 0;
  for (let image = 0; image < batch; image++) {
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const begin = (image * rows + row * strides[0]) * columns + column * strides[1];
        for (let channel = 0; channel < channels; channel++) places[at++] = begin * channels + channel;
      }
    }
  }
  return places;
}

type Pad = 'valid' | 'same' | number | [number, number][];

const pairOf = (value: number | [number, number]): [number, number] =>
  typeof value === 'number' ? [value, value] : value;

/** The border that the forward convolution saw. */
function padsOf(
  pad: Pad,
  x: Tensor4D,
  dy: Tensor4D,
  strides: [number, number],
  kernel: [number, number],
): [number, number][] {
  if (pad === 'valid')
    return [
      [0, 0],
      [0, 0],
      [0, 0],
      [0, 0],
    ];
  if (typeof pad === 'number')
    return [
      [0, 0],
      [pad, pad],
      [pad, pad],
      [0, 0],
    ];
  if (pad !== 'same') return pad;
  const sides = [0, 1].map((axis): [number, number] => {
    const total = Math.max(0, (dy.shape[axis + 1]! - 1) * strides[axis]! + kernel[axis]! - x.shape[axis + 1]!);
    return [Math.floor(total / 2), Math.ceil(total / 2)];
  });
  return [[0, 0], ...sides, [0, 0]];
}

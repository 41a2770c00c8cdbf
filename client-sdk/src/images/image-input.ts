/** Images as what a model takes: its size, its channels and its order, as its contract says. */
import type { TensorSpec } from '@commonweight/core';
import { InputError } from '../errors.ts';
import { elementKind, type TypedTensor } from '../runtime/tensor.ts';
import { resample, type Pixels, type Planes } from './resample.ts';

/** How an image becomes numbers, where that is not what the contract suggests. */
export interface ImageOptions {
  /** `fill` stretches, `cover` cuts off what is too much of one side, `contain` leaves room, filled with the background. */
  fit?: 'fill' | 'cover' | 'contain';
  /** What is behind what one can see through, and beside what is contained; from 0 (black) to 255. */
  background?: number;
  /** Of values from 0 to 1: subtracted, and then divided by. One number, or one for each channel. */
  mean?: number | readonly number[];
  std?: number | readonly number[];
  /** Where a contract has one dimension for all values, or more than one reading: what they are. */
  height?: number;
  width?: number;
  channels?: number;
  layout?: 'planar' | 'interleaved';
}

/** Pixels with options. */
export interface DecodedImage extends ImageOptions {
  image: Pixels;
}

/** What a model takes an image as. */
interface Shape {
  height: number;
  width: number;
  channels: number;
  layout: 'planar' | 'interleaved';
}

const PIXELS_MAX = 64 * 1024 * 1024;

/** One row for each image. Throws InputError. */
export function imagesAsTensor(input: TensorSpec, images: readonly DecodedImage[]): TypedTensor {
  const kind = elementKind(input.dtype);
  if (kind === undefined || !['float32', 'float64', 'uint8'].includes(kind.type))
    throw new InputError(`input '${input.name}' holds ${input.dtype}, and an image is float, double or uint8`);
  const shapes = images.map((one) => shapeOf(input, one));
  const [first] = shapes;
  if (first === undefined) throw new InputError(`input '${input.name}' was given no image`);
  const [isBatched, rowDims] = [(input.dims[0] ?? 0) < 0 || input.dims[0] === images.length, rowDimsOf(input, first)];
  if (!isBatched && images.length > 1)
    throw new InputError(`input '${input.name}' takes ${input.dims[0]} images at a time, not ${images.length}`);
  const size = first.height * first.width * first.channels;
  const data = new kind.array(size * images.length) as Float32Array | Float64Array | Uint8Array;
  images.forEach((one, row) => {
    if (shapes[row]!.height !== first.height || shapes[row]!.width !== first.width)
      throw new InputError(`input '${input.name}' leaves the size of images open: those of one batch have one size`);
    data.set(valuesOf(one, first, kind.type === 'uint8'), row * size);
  });
  return { type: kind.type, data, dims: [images.length, ...rowDims] };
}

function valuesOf(options: DecodedImage, shape: Shape, isBytes: boolean): Float32Array {
  const { height, width, channels, layout } = shape;
  const { planes } = fitted(planesOf(options, channels), shape, options);
  const values = new Float32Array(height * width * channels);
  planes.forEach((plane, channel) => {
    const [mean, std] = [of(options.mean, channel, 0), of(options.std, channel, 1)];
    for (let i = 0; i < plane.length; i++) {
      const value = isBytes ? Math.round(plane[i]!) : (plane[i]! / 255 - mean) / std;
      values[layout === 'planar' ? channel * plane.length + i : i * channels + channel] = value;
    }
  });
  return values;
}

const of = (value: number | readonly number[] | undefined, channel: number, otherwise: number): number =>
  typeof value === 'number' ? value : (value?.[channel] ?? otherwise);

/** Grey by ITU-R BT.601, or colours, or these and alpha, over the background. */
function planesOf({ image, background = 0 }: DecodedImage, channels: number): Planes {
  const { width, height, data } = image;
  const isWhole = Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0;
  if (!isWhole || data.length !== width * height * 4 || width * height > PIXELS_MAX)
    throw new InputError(
      `an image of ${width} x ${height} has ${width * height * 4} bytes, not ${data.length}, and ${PIXELS_MAX} pixels at most`,
    );
  const planes = Array.from({ length: channels }, () => new Float32Array(width * height));
  for (let i = 0; i < width * height; i++) {
    const [red, green, blue, alpha] = [data[4 * i]!, data[4 * i + 1]!, data[4 * i + 2]!, data[4 * i + 3]!];
    if (channels === 4) {
      for (const [channel, value] of [red, green, blue, alpha].entries()) planes[channel]![i] = value;
      continue;
    }
    const over = (value: number): number => (value * alpha + background * (255 - alpha)) / 255;
    if (channels === 1) planes[0]![i] = over(0.299 * red + 0.587 * green + 0.114 * blue);
    else for (const [channel, value] of [red, green, blue].entries()) planes[channel]![i] = over(value);
  }
  return { width, height, planes };
}

function fitted(image: Planes, { height, width }: Shape, { fit = 'fill', background = 0 }: ImageOptions): Planes {
  if (image.width === width && image.height === height) return image;
  if (fit === 'fill') return resample(image, width, height);
  const scales = [width / image.width, height / image.height] as const;
  if (fit === 'cover') {
    const scale = Math.max(...scales);
    const [taken, high] = [width / scale, height / scale];
    const from = { left: (image.width - taken) / 2, top: (image.height - high) / 2, width: taken, height: high };
    return resample(image, width, height, from);
  }
  const scale = Math.min(...scales);
  const [inner, tall] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * scale))) as [
    number,
    number,
  ];
  const small = resample(image, inner, tall);
  const [left, top] = [Math.floor((width - inner) / 2), Math.floor((height - tall) / 2)];
  const planes = small.planes.map((plane) => {
    const whole = new Float32Array(width * height).fill(background);
    for (let row = 0; row < tall; row++)
      whole.set(plane.subarray(row * inner, (row + 1) * inner), (top + row) * width + left);
    return whole;
  });
  return { width, height, planes };
}

/** Dimensions of a row: those of the contract, where it says them. */
const rowDimsOf = ({ dims }: TensorSpec, { height, width, channels, layout }: Shape): number[] => {
  if (dims.length === 2) return [height * width * channels];
  if (dims.length === 3) return [height, width];
  return layout === 'planar' ? [channels, height, width] : [height, width, channels];
};

const isChannels = (dim: number | undefined): boolean => dim === 1 || dim === 3 || dim === 4;

/** What a contract makes of an image. Throws InputError where it is not to be told. */
function shapeOf({ name, dims }: TensorSpec, { image, ...given }: DecodedImage): Shape {
  const [, a = 0, b = 0, c = 0] = dims;
  const size = (dim: number, own: number): number => (dim < 0 ? own : dim);
  if (dims.length === 4) {
    const layout = given.layout ?? (isChannels(a) ? 'planar' : isChannels(c) ? 'interleaved' : undefined);
    const [channels, high, wide] = layout === 'planar' ? [a, b, c] : [c, a, b];
    if (layout === undefined || !isChannels(channels)) throw notAnImage(name, dims);
    return {
      layout,
      channels,
      height: size(high, given.height ?? image.height),
      width: size(wide, given.width ?? image.width),
    };
  }
  if (dims.length === 3)
    return {
      layout: 'planar',
      channels: 1,
      height: size(a, given.height ?? image.height),
      width: size(b, given.width ?? image.width),
    };
  if (dims.length !== 2 || a < 1) throw notAnImage(name, dims);
  const {
    channels = given.height === undefined ? 1 : a / (given.height * (given.width ?? given.height)),
    layout = 'planar',
  } = given;
  const height = given.height ?? Math.sqrt(a / channels);
  const width = given.width ?? a / channels / height;
  const isWhole = [height, width, channels].every((side) => Number.isInteger(side) && side > 0);
  if (!isWhole || !isChannels(channels) || height * width * channels !== a) {
    throw new InputError(
      `input '${name}' takes ${a} values, which are no square of one channel: say { image, height, width, channels, layout }`,
    );
  }
  return { layout, channels, height, width };
}

const notAnImage = (name: string, dims: readonly number[]): InputError =>
  new InputError(
    `input '${name}' has the shape [${dims.map((dim) => (dim < 0 ? '?' : dim)).join(', ')}], which is no image's`,
  );

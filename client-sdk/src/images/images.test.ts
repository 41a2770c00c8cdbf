import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { decodeWithSharp } from './decode-with-sharp.ts';
import { imagesAsTensor, type DecodedImage } from './image-input.ts';
import { resample, type Pixels } from './resample.ts';

const planes = (width: number, height: number, values: readonly number[]) => ({
  width,
  height,
  planes: [Float32Array.from(values)],
});
const resampled = (width: number, height: number, values: readonly number[], to: [number, number]): number[] => [
  ...resample(planes(width, height, values), ...to).planes[0]!,
];

/** An image of one colour, or of a colour for each pixel. */
const pixels = (width: number, height: number, colour: (x: number, y: number) => readonly number[]): Pixels => ({
  width,
  height,
  data: Uint8ClampedArray.from(
    Array.from({ length: width * height }, (_, i) =>
      [...colour(i % width, Math.floor(i / width)), 255].slice(0, 4),
    ).flat(),
  ),
});
const grey = (value: number): readonly number[] => [value, value, value];
const spec = (dims: number[], dtype = 'float') => ({ name: 'input', dtype, dims });
const values = (dims: number[], image: DecodedImage, dtype = 'float'): number[] => [
  ...(imagesAsTensor(spec(dims, dtype), [image]).data as Float32Array),
];

test('the same size is the same image, and half of it the means of four', () => {
  expect(resampled(2, 2, [1, 2, 3, 4], [2, 2])).toEqual([1, 2, 3, 4]);
  // Of a triangle that is wide by two: three parts of the pixels within, one of those beside.
  expect(resampled(4, 1, [0, 0, 8, 8], [2, 1]).map((value) => Number(value.toFixed(4)))).toEqual([1.1429, 6.8571]);
  expect(resampled(2, 1, [0, 8], [4, 1])).toEqual([0, 2, 6, 8]);
});

test('an image of one value stays one, nothing goes beyond what was there, and mirrored it is the mirror', () => {
  const side = fc.integer({ min: 1, max: 12 });
  fc.assert(
    fc.property(
      side,
      side,
      side,
      side,
      fc.infiniteStream(fc.integer({ min: 0, max: 255 })),
      (w, h, toW, toH, stream) => {
        const image = Array.from({ length: w * h }, () => Number(stream.next().value));
        expect(resampled(w, h, image.fill(7, 0, 0), [w, h])).toEqual(image);
        const result = resampled(w, h, image, [toW, toH]);
        const [low, high] = [Math.min(...image), Math.max(...image)];
        for (const value of result) expect(value >= low - 1e-3 && value <= high + 1e-3).toBe(true);
        const flat = resampled(
          w,
          h,
          image.map(() => 9),
          [toW, toH],
        );
        for (const value of flat) expect(value).toBeCloseTo(9, 4);
        const mirror = (all: number[], width: number): number[] =>
          all.map((_, i) => all[Math.floor(i / width) * width + (width - 1 - (i % width))]!);
        const mirrored = resampled(w, h, mirror(image, w), [toW, toH]);
        mirror(mirrored, toW).forEach((value, i) => expect(value).toBeCloseTo(result[i]!, 2));
      },
    ),
  );
});

test('it agrees with an image library on a photograph-like image, to a few levels', async () => {
  const image = pixels(64, 48, (x, y) => [x * 4, y * 5, (x * y) % 256]);
  const { planes: own } = resample(
    { width: 64, height: 48, planes: [Float32Array.from({ length: 64 * 48 }, (_, i) => image.data[4 * i]!)] },
    16,
    12,
  );
  const { data } = await sharp(Buffer.from(image.data), { raw: { width: 64, height: 48, channels: 4 } })
    .resize(16, 12, { fit: 'fill', kernel: 'linear', fastShrinkOnLoad: false })
    .raw()
    .toBuffer({ resolveWithObject: true });
  const off = own[0]!.map((value, i) => Math.abs(value - data[4 * i]!));
  expect(Math.max(...off)).toBeLessThan(4);
});

test('a contract says size, channels and order', () => {
  const image = pixels(2, 2, (x, y) => [10 + x, 20 + y, 30]);
  const scaled = (...all: number[]): number[] => all.map((value) => Math.fround(value / 255));
  expect(values([-1, 3, 2, 2], { image })).toEqual(scaled(10, 11, 10, 11, 20, 20, 21, 21, 30, 30, 30, 30));
  expect(values([-1, 2, 2, 3], { image })).toEqual(scaled(10, 20, 30, 11, 20, 30, 10, 21, 30, 11, 21, 30));
  expect(values([-1, 1, 2, 2], { image: pixels(2, 2, () => grey(51)) })).toEqual([0.2, 0.2, 0.2, 0.2].map(Math.fround));
  const flat = imagesAsTensor(spec([-1, 784]), [{ image: pixels(280, 280, () => grey(255)) }]);
  expect([flat.dims, flat.data[0], flat.data[783]]).toEqual([[1, 784], 1, 1]);
  expect(imagesAsTensor(spec([-1, 28, 28]), [{ image }, { image }]).dims).toEqual([2, 28, 28]);
  // Where a contract leaves the size open the image has its own.
  expect(imagesAsTensor(spec([-1, 3, -1, -1]), [{ image }]).dims).toEqual([1, 3, 2, 2]);
  // Bytes as they are.
  expect(values([-1, 2, 2, 3], { image }, 'uint8').slice(0, 3)).toEqual([10, 20, 30]);
});

test('grey is by ITU-R BT.601, and what one can see through lies over the background', () => {
  expect(values([-1, 1], { image: pixels(1, 1, () => [255, 0, 0]) })[0]).toBeCloseTo(0.299, 5);
  expect(values([-1, 1], { image: pixels(1, 1, () => [0, 255, 0]) })[0]).toBeCloseTo(0.587, 5);
  const half: Pixels = { width: 1, height: 1, data: Uint8ClampedArray.of(255, 255, 255, 51) };
  expect(values([-1, 1], { image: half })[0]).toBeCloseTo(0.2, 5);
  expect(values([-1, 1], { image: half, background: 255 })[0]).toBeCloseTo(1, 5);
});

test('mean and spread are taken off, and an image is stretched, cut or contained', () => {
  const normal = values([-1, 3, 1, 1], { image: pixels(1, 1, () => [255, 0, 255]), mean: [0.5, 0.5, 0], std: 0.25 });
  expect(normal).toEqual([2, -2, 4]);
  // Twice as wide as high: left black, right white.
  const wide = pixels(4, 2, (x) => grey(x < 2 ? 0 : 255));
  const at = (fit: 'fill' | 'cover' | 'contain'): number[] => values([-1, 4], { image: wide, fit, background: 102 });
  const [left = 1, right = 0] = at('fill');
  expect(left).toBeLessThan(0.2);
  expect(right).toBeGreaterThan(0.8);
  const [near = 0, far = 0] = at('cover');
  expect(near).toBeLessThan(0.3);
  expect(far).toBeGreaterThan(0.7);
  expect(at('contain').slice(2)).toEqual([0.4, 0.4].map(Math.fround));
});

test.each<[string, () => unknown, string]>([
  ['no image at all', () => imagesAsTensor(spec([-1, 4]), []), 'was given no image'],
  [
    'whole numbers',
    () => values([-1, 4], { image: pixels(1, 1, () => grey(1)) }, 'int64'),
    'holds int64, and an image is float',
  ],
  ['a shape that is none', () => values([-1, 5, 5, 5], { image: pixels(1, 1, () => grey(1)) }), 'which is no image'],
  [
    'no square',
    () => values([-1, 10], { image: pixels(1, 1, () => grey(1)) }),
    'are no square of one channel: say { image, height',
  ],
  [
    'too few bytes',
    () => values([-1, 4], { image: { width: 2, height: 2, data: new Uint8Array(3) } }),
    'has 16 bytes, not 3',
  ],
  [
    'too many for its rows',
    () =>
      imagesAsTensor(
        spec([1, 2, 2]),
        [1, 2].map(() => ({ image: pixels(2, 2, () => grey(1)) })),
      ),
    'takes 1 images at a time, not 2',
  ],
])('%s is refused by what is wrong', (_, work, words) => expect(work).toThrow(words));

test('a rectangle, and colours in one dimension, are what is said of them', () => {
  const image = pixels(3, 2, (x, y) => grey(10 * y + x));
  expect(imagesAsTensor(spec([-1, 6]), [{ image, height: 2, width: 3 }]).data).toHaveLength(6);
  expect(
    imagesAsTensor(spec([-1, 12]), [{ image, height: 2, width: 2, channels: 3, layout: 'interleaved' }]).data,
  ).toHaveLength(12);
});

test('files of common kinds are read, by their path or their bytes; what is none is named', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cw-images-'));
  const image = pixels(8, 6, (x, y) => [x * 30, y * 40, 120]);
  const raw = sharp(Buffer.from(image.data), { raw: { width: 8, height: 6, channels: 4 } });
  const png = await raw.clone().png().toBuffer();
  const path = join(folder, 'image.png');
  await writeFile(path, png);
  for (const source of [path, new Uint8Array(png), new Blob([new Uint8Array(png)])]) {
    const read = await decodeWithSharp(source);
    expect([read.width, read.height, [...read.data]]).toEqual([8, 6, [...image.data]]);
  }
  for (const encoded of [
    await raw.clone().jpeg({ quality: 100 }).toBuffer(),
    await raw.clone().webp({ lossless: true }).toBuffer(),
  ]) {
    const { data } = await decodeWithSharp(new Uint8Array(encoded));
    expect(Math.abs(data[0]! - image.data[0]!)).toBeLessThan(20);
    expect(data).toHaveLength(8 * 6 * 4);
  }
  const large = await sharp({ create: { width: 4000, height: 1000, channels: 3, background: 'red' } })
    .png()
    .toBuffer();
  expect(await decodeWithSharp(new Uint8Array(large))).toMatchObject({ width: 2048, height: 512 });
  await writeFile(join(folder, 'text.png'), 'no image');
  await expect(decodeWithSharp(join(folder, 'text.png'))).rejects.toThrow(/no image can be read from .*text\.png: /);
  await expect(decodeWithSharp(join(folder, 'nowhere.png'))).rejects.toThrow(/nowhere\.png/);
  await expect(decodeWithSharp(new Uint8Array(10))).rejects.toThrow('no image can be read from 10 bytes');
});

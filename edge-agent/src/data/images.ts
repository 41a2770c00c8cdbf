import { readdir } from 'node:fs/promises';
import { extname, join } from 'node:path';
import type { Sharp, SharpOptions } from 'sharp';
import { DataError, type Dataset } from './dataset.ts';

export interface ImageOptions {
  /** Every image is made so large; without it all must have one size. */
  size?: { width: number; height: number };
  /** 1 is grey, 3 is colour. */
  channels: 1 | 3;
  /** As ONNX models mostly read them, [channels, height, width], or as TensorFlow's do. */
  layout: 'chw' | 'hwc';
  /** Names of the sub-folders in the order of the classes; without it they are sorted by name. */
  classes?: readonly string[];
}

const ENDINGS = ['.png', '.jpg', '.jpeg', '.webp', '.gif', '.tif', '.tiff', '.avif'];
/** Images of a folder. */
const IMAGES_MAX = 1_000_000;
/** Bytes of all of them, unpacked. */
const BYTES_MAX = 2 ** 31 - 1;
/** Numbers of one image: a small file may unpack to any size. */
const PIXELS_MAX = 100_000_000;
/** Files that are unpacked at once. */
const AT_ONCE = 8;

/** A folder of images with a sub-folder for each class. */
export async function readImages(folder: string, options: ImageOptions): Promise<Omit<Dataset, 'label'>> {
  const classes = options.classes ?? (await subFolders(folder));
  if (classes.length === 0) {
    throw new DataError(`${folder} has no sub-folders: put the images of each class into a folder with its name`);
  }
  const files: { path: string; label: number }[] = [];
  for (const [label, name] of classes.entries()) {
    for (const file of await entriesOf(join(folder, name))) {
      if (ENDINGS.includes(extname(file).toLowerCase())) files.push({ path: join(folder, name, file), label });
    }
  }
  if (files.length === 0) {
    throw new DataError(
      `the folders ${classes.join(', ')} of ${folder} have no images: there may be ${ENDINGS.join(', ')}`,
    );
  }
  if (files.length > IMAGES_MAX)
    throw new DataError(`${folder} has ${files.length} images; up to ${IMAGES_MAX} are read`);
  const decode = await decoder(options);
  const first = await decode(files[0]!.path);
  const { height, width, channels } = first;
  const each = height * width * channels;
  if (each * files.length > BYTES_MAX) {
    throw new DataError(
      `${files.length} images of ${width}x${height} are over ${BYTES_MAX} bytes: make them smaller with &size=WxH`,
    );
  }
  const values = new Uint8Array(each * files.length);
  for (let start = 0; start < files.length; start += AT_ONCE) {
    const some = files.slice(start, start + AT_ONCE);
    const images = await Promise.all(some.map(({ path }) => decode(path)));
    images.forEach((image, at) => {
      if (image.height !== height || image.width !== width) {
        throw new DataError(
          `${some[at]!.path} is ${image.width}x${image.height} and ${files[0]!.path} ${width}x${height}: bring all to one size with &size=WxH`,
        );
      }
      values.set(options.layout === 'chw' ? planes(image.pixels, channels) : image.pixels, (start + at) * each);
    });
  }
  const shape = options.layout === 'chw' ? [channels, height, width] : [height, width, channels];
  const columns = [
    { name: 'image', values, shape, scale: 1 / 255 },
    { name: 'label', values: Int32Array.from(files, ({ label }) => label), shape: [] },
  ];
  return { source: folder, examples: files.length, columns };
}

interface Image {
  pixels: Uint8Array;
  width: number;
  height: number;
  channels: number;
}

async function decoder({ size, channels }: ImageOptions): Promise<(path: string) => Promise<Image>> {
  let sharp: (file: string, options: SharpOptions) => Sharp;
  try {
    sharp = (await import('sharp')).default;
  } catch (cause) {
    throw new DataError('the npm package sharp, which unpacks images, is not here: run `npm install sharp`', { cause });
  }
  return async (path) => {
    try {
      const upright = sharp(path, { limitInputPixels: PIXELS_MAX })
        .rotate()
        .flatten()
        .toColourspace(channels === 1 ? 'b-w' : 'srgb');
      const sized = size === undefined ? upright : upright.resize({ ...size, fit: 'fill' });
      const { data, info } = await sized.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
      if (info.channels !== channels) throw new Error(`it has ${info.channels} channels where ${channels} are wanted`);
      return { pixels: data, width: info.width, height: info.height, channels };
    } catch (cause) {
      const [first] = (cause as Error).message.split('\n');
      throw new DataError(`${path} cannot be unpacked (${first}): fetch it again, or leave it out`, { cause });
    }
  };
}

/** From one pixel after the other to one channel after the other. */
function planes(pixels: Uint8Array, channels: number): Uint8Array {
  if (channels === 1) return pixels;
  const area = pixels.length / channels;
  const planes = new Uint8Array(pixels.length);
  for (let at = 0; at < area; at++) {
    for (let channel = 0; channel < channels; channel++) planes[channel * area + at] = pixels[at * channels + channel]!;
  }
  return planes;
}

async function subFolders(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.flatMap((entry) => (entry.isDirectory() && !entry.name.startsWith('.') ? [entry.name] : [])).sort();
  } catch (cause) {
    throw new DataError(`cannot read ${folder}: ${(cause as Error).message}`, { cause });
  }
}

/** Names of what is in a folder; of a class that an agent has no images of there may be none. */
async function entriesOf(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new DataError(`cannot read ${folder}: ${(cause as Error).message}`, { cause });
  }
}

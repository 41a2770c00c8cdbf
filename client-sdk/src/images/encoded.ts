import { InputError } from '../errors.ts';
import type { Inputs, InputValue } from '../model/inputs.ts';
import { isPixels, type DecodedImage, type ImageOptions } from './image-input.ts';
import type { Pixels } from './resample.ts';

/** Where an image is to be had: pixels, the bytes of a PNG, JPEG or WebP file, in Node the path of one, in a page a Blob. */
export type ImageSource = Pixels | Uint8Array | string | BlobLike;

/** What pages call a Blob, as much of it as is used. */
export interface BlobLike {
  readonly size: number;
  readonly type: string;
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** An image, and how it becomes numbers. */
export interface ImageInput extends ImageOptions {
  image: ImageSource;
}

/** Gives the pixels of an image file. */
export type DecodeImage = (source: Exclude<ImageSource, Pixels>) => Promise<Pixels>;

export const isImage = (value: unknown): value is ImageInput =>
  typeof value === 'object' && value !== null && 'image' in value && !ArrayBuffer.isView(value);

const isImages = (value: unknown): value is readonly (ImageInput | Pixels)[] =>
  Array.isArray(value) && value.length > 0 && value.every((one) => isImage(one) || isPixels(one));

/** Whether inputs have to be decoded first. */
export const hasFiles = (inputs: Inputs): boolean =>
  Object.values(inputs).some((value) => imagesIn(value)?.some(({ image }) => !isPixels(image)) === true);

/** The images that an input is given as, one for each row; undefined where it is given as something else. */
export function imagesIn(value: InputValue): readonly ImageInput[] | undefined {
  const asInput = (one: ImageInput | Pixels): ImageInput => (isImage(one) ? one : { image: one });
  if (isImage(value) || isPixels(value)) return [asInput(value)];
  return isImages(value) ? value.map(asInput) : undefined;
}

/** The same inputs with pixels in place of files. Throws InputError where one is no image. */
export async function decoded(inputs: Inputs, decode: DecodeImage | undefined): Promise<Inputs> {
  const entries = Object.entries(inputs).map(async ([name, value]): Promise<[string, InputValue]> => {
    const images = imagesIn(value);
    if (images === undefined) return [name, value];
    const all = images.map(async ({ image, ...options }): Promise<DecodedImage> => {
      if (isPixels(image)) return { image, ...options };
      if (decode === undefined)
        throw new InputError(`input '${name}' is an image file, which cannot be read here: give its pixels`);
      return { image: await decode(image), ...options };
    });
    return [name, await Promise.all(all)];
  });
  return Object.fromEntries(await Promise.all(entries));
}

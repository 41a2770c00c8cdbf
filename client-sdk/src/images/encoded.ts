import { InputError } from '../errors.ts';
import type { Inputs, InputValue } from '../model/inputs.ts';
import type { DecodedImage, ImageOptions, imagesAsTensor } from './image-input.ts';
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

const isPixels = (value: unknown): value is Pixels =>
  typeof value === 'object' &&
  value !== null &&
  typeof (value as Pixels).width === 'number' &&
  typeof (value as Pixels).height === 'number' &&
  ((value as Pixels).data instanceof Uint8ClampedArray || (value as Pixels).data instanceof Uint8Array);

const isImages = (value: unknown): value is readonly (ImageInput | Pixels)[] =>
  Array.isArray(value) && value.length > 0 && value.every((one) => isImage(one) || isPixels(one));

const copyOf = ({ width, height, data }: Pixels): Pixels => ({ width, height, data: data.slice() });

/** Images that are decoded, and what makes rows of them. */
export class ReadyImages {
  readonly images: readonly DecodedImage[];
  readonly asTensor: typeof imagesAsTensor;

  constructor(images: readonly DecodedImage[], asTensor: typeof imagesAsTensor) {
    this.images = images;
    this.asTensor = asTensor;
  }
}

/** Whether inputs have to be decoded first. */
export const hasImages = (inputs: Inputs): boolean =>
  Object.values(inputs).some((value) => imagesIn(value) !== undefined);

/** The images that an input is given as, one for each row; undefined where it is given as something else. */
function imagesIn(value: InputValue): readonly ImageInput[] | undefined {
  const asInput = (one: ImageInput | Pixels): ImageInput => (isImage(one) ? one : { image: one });
  if (isImage(value) || isPixels(value)) return [asInput(value)];
  return isImages(value) ? value.map(asInput) : undefined;
}

/** The same inputs with what makes rows of images in their place. Throws InputError where one is no image. */
export async function decoded(inputs: Inputs, decode: DecodeImage | undefined): Promise<Inputs> {
  const entries = Object.entries(inputs).map(async ([name, value]): Promise<[string, InputValue]> => {
    const images = imagesIn(value);
    if (images === undefined) return [name, value];
    const all = images.map(async ({ image, ...options }): Promise<DecodedImage> => {
      // A copy, made before anything is waited for: a page may draw on.
      if (isPixels(image)) return { image: copyOf(image), ...options };
      if (decode === undefined)
        throw new InputError(`input '${name}' is an image file, which cannot be read here: give its pixels`);
      return { image: await decode(image), ...options };
    });
    // A page that predicts on no images need not load what scales them.
    const [{ imagesAsTensor: asTensor }, ...ready] = await Promise.all([import('./image-input.ts'), ...all]);
    return [name, new ReadyImages(ready, asTensor)];
  });
  return Object.fromEntries(await Promise.all(entries));
}

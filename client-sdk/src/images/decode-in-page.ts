import { asError, InputError } from '../errors.ts';
import type { BlobLike, DecodeImage } from './encoded.ts';

interface Bitmap {
  width: number;
  height: number;
  close(): void;
}
interface Context {
  drawImage(image: Bitmap, x: number, y: number): void;
  getImageData(x: number, y: number, width: number, height: number): { data: Uint8ClampedArray };
}
declare const createImageBitmap: (blob: BlobLike) => Promise<Bitmap>;
declare const OffscreenCanvas: new (
  width: number,
  height: number,
) => {
  getContext(kind: '2d', options: { willReadFrequently: true }): Context | null;
};

/** Reads whatever images the browser shows, off the page. */
export const decodeInPage: DecodeImage = async (source) => {
  if (typeof source === 'string')
    throw new InputError('a page has no files by path: give the image as a Blob, as bytes or as ImageData');
  try {
    const blob = source instanceof Uint8Array ? new Blob([source as Uint8Array<ArrayBuffer>]) : source;
    const bitmap = await createImageBitmap(blob);
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    if (context === null) throw new Error('this browser draws no more canvases');
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return { width, height, data: context.getImageData(0, 0, width, height).data };
  } catch (cause) {
    throw new InputError(
      `no image can be read from ${source instanceof Uint8Array ? source.length : source.size} bytes: ${asError(cause).message}`,
      {
        cause,
      },
    );
  }
};

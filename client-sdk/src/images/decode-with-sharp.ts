import { InputError, asError } from '../errors.ts';
import type { DecodeImage } from './encoded.ts';

/** What of the package `sharp` is used. */
interface Sharp {
  rotate(): Sharp;
  resize(width: number, height: number, how: { fit: 'inside'; withoutEnlargement: true }): Sharp;
  toColourspace(name: string): Sharp;
  ensureAlpha(): Sharp;
  raw(): Sharp;
  toBuffer(options: { resolveWithObject: true }): Promise<{ data: Buffer; info: { width: number; height: number } }>;
}

const PIXELS_MAX = 64 * 1024 * 1024;
/** What is larger is made smaller while it is read, away from the event loop: no model takes images of this size. */
const SIDE_MAX = 2_048;

/** Reads PNG, JPEG, WebP and others by the package `sharp`, which an app installs where it gives image files. */
export const decodeWithSharp: DecodeImage = async (source) => {
  const open = await sharp();
  const file =
    typeof source === 'string' || source instanceof Uint8Array ? source : new Uint8Array(await source.arrayBuffer());
  try {
    // As a camera held it; in the colours of a screen.
    const image = open(file, { limitInputPixels: PIXELS_MAX })
      .rotate()
      .resize(SIDE_MAX, SIDE_MAX, { fit: 'inside', withoutEnlargement: true })
      .toColourspace('srgb')
      .ensureAlpha();
    const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data };
  } catch (cause) {
    const what =
      typeof source === 'string' ? source : `${source instanceof Uint8Array ? source.length : source.size} bytes`;
    throw new InputError(`no image can be read from ${what}: ${asError(cause).message}`, { cause });
  }
};

async function sharp(): Promise<(file: string | Uint8Array, options: { limitInputPixels: number }) => Sharp> {
  try {
    // By a name that compilers do not look up: the package need not be there.
    const name = 'sharp';
    return ((await import(name)) as { default: (file: string | Uint8Array, options: object) => Sharp }).default;
  } catch (cause) {
    throw new InputError(
      'image files are read by the package sharp, which is not installed: `npm install sharp`, or give pixels as { width, height, data }',
      { cause },
    );
  }
}

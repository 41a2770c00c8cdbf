/** Pixels as they are seen: rows from the top, four bytes each (red, green, blue, alpha). What a page calls ImageData is one. */
export interface Pixels {
  width: number;
  height: number;
  data: Uint8ClampedArray | Uint8Array;
}

/** Planes of an image, one after the other, values as they were. */
export interface Planes {
  width: number;
  height: number;
  planes: readonly Float32Array[];
}

/** What each new place takes of the old ones. */
interface Taps {
  first: Int32Array;
  weights: readonly Float32Array[];
}

/**
 * Another size by a triangle filter in each direction, which is wider where the image becomes smaller: every old pixel counts, so that
 * thin lines do not vanish. Between pixels it is linear. `from` is the part of the image that is taken, in pixels.
 */
export function resample(
  image: Planes,
  width: number,
  height: number,
  from: { left: number; top: number; width: number; height: number } = { left: 0, top: 0, ...image },
): Planes {
  const across = tapsOf(from.left, from.width, image.width, width);
  const down = tapsOf(from.top, from.height, image.height, height);
  const planes = image.planes.map((plane) => {
    const narrow = new Float32Array(width * image.height);
    for (let row = 0; row < image.height; row++) taken(narrow, row * width, 1, across, plane, row * image.width, 1);
    const result = new Float32Array(width * height);
    for (let column = 0; column < width; column++) taken(result, column, width, down, narrow, column, width);
    return result;
  });
  return { width, height, planes };
}

function taken(
  into: Float32Array,
  at: number,
  step: number,
  { first, weights }: Taps,
  of: Float32Array,
  start: number,
  stride: number,
): void {
  for (let i = 0; i < weights.length; i++) {
    const taps = weights[i]!;
    let sum = 0;
    for (let k = 0; k < taps.length; k++) sum += taps[k]! * of[start + (first[i]! + k) * stride]!;
    into[at + i * step] = sum;
  }
}

/** Centres of new pixels lie evenly over what is taken; weights sum up to one. */
function tapsOf(start: number, length: number, size: number, places: number): Taps {
  const scale = length / places;
  const reach = Math.max(1, scale);
  const first = new Int32Array(places);
  const weights = Array.from({ length: places }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const low = Math.max(0, Math.floor(centre - reach + 0.5));
    const high = Math.min(size, Math.max(low + 1, Math.floor(centre + reach + 0.5)));
    first[i] = Math.min(low, size - 1);
    const taps = Float32Array.from({ length: high - first[i]! }, (__, k) =>
      Math.max(0, 1 - Math.abs(first[i]! + k + 0.5 - centre) / reach),
    );
    const sum = taps.reduce((total, weight) => total + weight, 0);
    // A place beyond the edge takes the pixel that is nearest.
    return sum > 0 ? taps.map((weight) => weight / sum) : Float32Array.of(1);
  });
  return { first, weights };
}

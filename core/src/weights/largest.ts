/** Bits of |value|: as whole numbers they are in the order of the magnitudes, and NaN lies above all. */
const MAGNITUDE = 0x7fffffff;
/** From the highest bits to the lowest. */
const DIGITS: readonly { shift: number; count: number }[] = [
  { shift: 20, count: 2 ** 11 },
  { shift: 10, count: 2 ** 10 },
  { shift: 0, count: 2 ** 10 },
];

/** What tells the largest values from the rest. */
export interface Threshold {
  /** Values whose magnitude has more than these bits are among the largest, */
  bits: number;
  /** and so are so many of those that have just these: the first. */
  equal: number;
}

/** The threshold of the `count` values with the largest magnitudes; zeros are never among them. Takes three passes, and no copy. */
export function thresholdOf(values: Float32Array, count: number): Threshold {
  const magnitudes = new Uint32Array(values.buffer, values.byteOffset, values.length);
  let prefix = 0;
  let known = 0;
  let left = count;
  for (const { shift, count: digits } of DIGITS) {
    const histogram = new Uint32Array(digits);
    for (let i = 0; i < magnitudes.length; i++) {
      const magnitude = (magnitudes[i] ?? 0) & MAGNITUDE;
      if ((magnitude & known) === prefix) {
        const digit = (magnitude >>> shift) & (digits - 1);
        histogram[digit] = (histogram[digit] ?? 0) + 1;
      }
    }
    let digit = digits - 1;
    for (; digit > 0 && (histogram[digit] ?? 0) < left; digit--) left -= histogram[digit] ?? 0;
    prefix |= digit << shift;
    known |= (digits - 1) << shift;
  }
  return { bits: prefix, equal: prefix === 0 ? 0 : left };
}

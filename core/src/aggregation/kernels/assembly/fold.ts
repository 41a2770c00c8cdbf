// AssemblyScript. Adds `weight x value` of one block of one to four updates to int64 accumulators. Terms are whole numbers in float64,
// |their sum| <= 2^51, so that the accumulators are read and written once for all of the updates.

/** 1.5 x 2^52: adding it to an integer-valued float64 leaves the integer, in two's complement, in the low mantissa bits. */
const MAGIC: f64 = 6755399441055744.0;
/** Bytes from the block of one update to that of the next; of MXINT blocks, exponents stand behind the elements, and halves behind these. */
const PLACE: usize = 32768;
const EXPONENTS: usize = 8192;
const HALVES: usize = 16384;

/** The upper two lanes of four. */
function upper(lanes: v128): v128 {
  return i8x16.shuffle(lanes, lanes, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
}

/** sums[0..3] += low, high: float64 that MAGIC was added to. */
function accumulate(sums: usize, low: v128, high: v128): void {
  const magic = f64x2.splat(MAGIC);
  v128.store(sums, i64x2.add(v128.load(sums), i64x2.sub(low, magic)));
  v128.store(sums, i64x2.add(v128.load(sums, 16), i64x2.sub(high, magic)), 16);
}

/** The largest |value| of n float32 bit patterns, as unsigned bits: infinities and NaN come out above every number. */
export function largestMagnitude(source: usize, n: i32): u32 {
  const mask = i32x4.splat(0x7fffffff);
  let largest = i32x4.splat(0);
  let other = largest;
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const at = source + ((<usize>i) << 2);
    largest = i32x4.max_u(largest, v128.and(v128.load(at), mask));
    other = i32x4.max_u(other, v128.and(v128.load(at, 16), mask));
  }
  largest = i32x4.max_u(largest, other);
  let result = max<u32>(
    max<u32>(i32x4.extract_lane(largest, 0), i32x4.extract_lane(largest, 1)),
    max<u32>(i32x4.extract_lane(largest, 2), i32x4.extract_lane(largest, 3)),
  );
  for (; i < n; i++) result = max<u32>(result, load<u32>(source + ((<usize>i) << 2)) & 0x7fffffff);
  return result;
}

/** Four values as whole steps of the grid: multiplying by a power of two is exact in float32, and so is rounding what comes of it. */
function stepsAt(at: usize, scale: v128): v128 {
  return f32x4.nearest(f32x4.mul(v128.load(at), scale));
}

/** sums[i] += weight x round-half-even(source[i] x scale). */
export function foldFloat32(sums: usize, source: usize, n: i32, scale: f32, weight: f64): void {
  const scales = f32x4.splat(scale);
  const weights = f64x2.splat(weight);
  const magic = f64x2.splat(MAGIC);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const steps = stepsAt(source + ((<usize>i) << 2), scales);
    const low = f64x2.add(magic, f64x2.mul(f64x2.promote_low_f32x4(steps), weights));
    const high = f64x2.add(magic, f64x2.mul(f64x2.promote_low_f32x4(upper(steps)), weights));
    accumulate(sums + ((<usize>i) << 3), low, high);
  }
  for (; i < n; i++) {
    const steps = nearest<f64>(<f64>load<f32>(source + ((<usize>i) << 2)) * <f64>scale);
    const at = sums + ((<usize>i) << 3);
    store<i64>(at, load<i64>(at) + <i64>(steps * weight));
  }
}

/** The same for two updates in neighbouring places; n is a multiple of four. */
export function foldFloat32Twice(sums: usize, source: usize, n: i32, scale: f32, first: f64, second: f64): void {
  const scales = f32x4.splat(scale);
  const a = f64x2.splat(first);
  const b = f64x2.splat(second);
  const magic = f64x2.splat(MAGIC);
  for (let i = 0; i < n; i += 4) {
    const at = source + ((<usize>i) << 2);
    let steps = stepsAt(at, scales);
    let low = f64x2.add(magic, f64x2.mul(f64x2.promote_low_f32x4(steps), a));
    let high = f64x2.add(magic, f64x2.mul(f64x2.promote_low_f32x4(upper(steps)), a));
    steps = stepsAt(at + PLACE, scales);
    low = f64x2.add(low, f64x2.mul(f64x2.promote_low_f32x4(steps), b));
    high = f64x2.add(high, f64x2.mul(f64x2.promote_low_f32x4(upper(steps)), b));
    accumulate(sums + ((<usize>i) << 3), low, high);
  }
}

/** The same for four. */
export function foldFloat32FourTimes(
  sums: usize,
  source: usize,
  n: i32,
  scale: f32,
  first: f64,
  second: f64,
  third: f64,
  fourth: f64,
): void {
  const scales = f32x4.splat(scale);
  const a = f64x2.splat(first);
  const b = f64x2.splat(second);
  const c = f64x2.splat(third);
  const d = f64x2.splat(fourth);
  const magic = f64x2.splat(MAGIC);
  for (let i = 0; i < n; i += 4) {
    const at = source + ((<usize>i) << 2);
    let steps = stepsAt(at, scales);
    let low = f64x2.add(magic, f64x2.mul(f64x2.promote_low_f32x4(steps), a));
    let high = f64x2.add(magic, f64x2.mul(f64x2.promote_low_f32x4(upper(steps)), a));
    steps = stepsAt(at + PLACE, scales);
    low = f64x2.add(low, f64x2.mul(f64x2.promote_low_f32x4(steps), b));
    high = f64x2.add(high, f64x2.mul(f64x2.promote_low_f32x4(upper(steps)), b));
    steps = stepsAt(at + 2 * PLACE, scales);
    low = f64x2.add(low, f64x2.mul(f64x2.promote_low_f32x4(steps), c));
    high = f64x2.add(high, f64x2.mul(f64x2.promote_low_f32x4(upper(steps)), c));
    steps = stepsAt(at + 3 * PLACE, scales);
    low = f64x2.add(low, f64x2.mul(f64x2.promote_low_f32x4(steps), d));
    high = f64x2.add(high, f64x2.mul(f64x2.promote_low_f32x4(upper(steps)), d));
    accumulate(sums + ((<usize>i) << 3), low, high);
  }
}

/** The same for three. */
export function foldFloat32Thrice(
  sums: usize,
  source: usize,
  n: i32,
  scale: f32,
  first: f64,
  second: f64,
  third: f64,
): void {
  const scales = f32x4.splat(scale);
  const a = f64x2.splat(first);
  const b = f64x2.splat(second);
  const c = f64x2.splat(third);
  const magic = f64x2.splat(MAGIC);
  for (let i = 0; i < n; i += 4) {
    const at = source + ((<usize>i) << 2);
    let steps = stepsAt(at, scales);
    let low = f64x2.add(magic, f64x2.mul(f64x2.promote_low_f32x4(steps), a));
    let high = f64x2.add(magic, f64x2.mul(f64x2.promote_low_f32x4(upper(steps)), a));
    steps = stepsAt(at + PLACE, scales);
    low = f64x2.add(low, f64x2.mul(f64x2.promote_low_f32x4(steps), b));
    high = f64x2.add(high, f64x2.mul(f64x2.promote_low_f32x4(upper(steps)), b));
    steps = stepsAt(at + 2 * PLACE, scales);
    low = f64x2.add(low, f64x2.mul(f64x2.promote_low_f32x4(steps), c));
    high = f64x2.add(high, f64x2.mul(f64x2.promote_low_f32x4(upper(steps)), c));
    accumulate(sums + ((<usize>i) << 3), low, high);
  }
}

/** Four elements of eight bits as integers of 32. */
function elementsAt(at: usize): v128 {
  return i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(at)));
}

/** weight x 2^(the exponent that a block's elements share + shiftBase), which is no negative power. */
function factorAt(place: usize, start: i32, weight: f64, shiftBase: i32): f64 {
  const shift = <i32>load<u8>(place + EXPONENTS + ((<usize>start) >> 5)) + shiftBase;
  return weight * reinterpret<f64>((<i64>(shift + 1023)) << 52);
}

/** Folds whole MXINT8 blocks (the last may be short): sums[i] += weight x element x 2^shift. */
export function foldMxint(sums: usize, place: usize, n: i32, shiftBase: i32, weight: f64): void {
  const magic = f64x2.splat(MAGIC);
  for (let start = 0; start < n; start += 32) {
    const factor = factorAt(place, start, weight, shiftBase);
    const factors = f64x2.splat(factor);
    const end = min<i32>(start + 32, n);
    let i = start;
    for (; i + 4 <= end; i += 4) {
      const elements = elementsAt(place + <usize>i);
      const low = f64x2.add(magic, f64x2.mul(f64x2.convert_low_i32x4_s(elements), factors));
      const high = f64x2.add(magic, f64x2.mul(f64x2.convert_low_i32x4_s(upper(elements)), factors));
      accumulate(sums + ((<usize>i) << 3), low, high);
    }
    for (; i < end; i++) {
      const at = sums + ((<usize>i) << 3);
      store<i64>(at, load<i64>(at) + <i64>(<f64>load<i8>(place + <usize>i) * factor));
    }
  }
}

/** The same for two updates in neighbouring places; n is a multiple of 32. */
export function foldMxintTwice(sums: usize, place: usize, n: i32, shiftBase: i32, first: f64, second: f64): void {
  const magic = f64x2.splat(MAGIC);
  for (let start = 0; start < n; start += 32) {
    const a = f64x2.splat(factorAt(place, start, first, shiftBase));
    const b = f64x2.splat(factorAt(place + PLACE, start, second, shiftBase));
    for (let i = start; i < start + 32; i += 4) {
      const at = place + <usize>i;
      let elements = elementsAt(at);
      let low = f64x2.add(magic, f64x2.mul(f64x2.convert_low_i32x4_s(elements), a));
      let high = f64x2.add(magic, f64x2.mul(f64x2.convert_low_i32x4_s(upper(elements)), a));
      elements = elementsAt(at + PLACE);
      low = f64x2.add(low, f64x2.mul(f64x2.convert_low_i32x4_s(elements), b));
      high = f64x2.add(high, f64x2.mul(f64x2.convert_low_i32x4_s(upper(elements)), b));
      accumulate(sums + ((<usize>i) << 3), low, high);
    }
  }
}

/** The same for four. */
export function foldMxintFourTimes(
  sums: usize,
  place: usize,
  n: i32,
  shiftBase: i32,
  first: f64,
  second: f64,
  third: f64,
  fourth: f64,
): void {
  const magic = f64x2.splat(MAGIC);
  for (let start = 0; start < n; start += 32) {
    const a = f64x2.splat(factorAt(place, start, first, shiftBase));
    const b = f64x2.splat(factorAt(place + PLACE, start, second, shiftBase));
    const c = f64x2.splat(factorAt(place + 2 * PLACE, start, third, shiftBase));
    const d = f64x2.splat(factorAt(place + 3 * PLACE, start, fourth, shiftBase));
    for (let i = start; i < start + 32; i += 4) {
      const at = place + <usize>i;
      let elements = elementsAt(at);
      let low = f64x2.add(magic, f64x2.mul(f64x2.convert_low_i32x4_s(elements), a));
      let high = f64x2.add(magic, f64x2.mul(f64x2.convert_low_i32x4_s(upper(elements)), a));
      elements = elementsAt(at + PLACE);
      low = f64x2.add(low, f64x2.mul(f64x2.convert_low_i32x4_s(elements), b));
      high = f64x2.add(high, f64x2.mul(f64x2.convert_low_i32x4_s(upper(elements)), b));
      elements = elementsAt(at + 2 * PLACE);
      low = f64x2.add(low, f64x2.mul(f64x2.convert_low_i32x4_s(elements), c));
      high = f64x2.add(high, f64x2.mul(f64x2.convert_low_i32x4_s(upper(elements)), c));
      elements = elementsAt(at + 3 * PLACE);
      low = f64x2.add(low, f64x2.mul(f64x2.convert_low_i32x4_s(elements), d));
      high = f64x2.add(high, f64x2.mul(f64x2.convert_low_i32x4_s(upper(elements)), d));
      accumulate(sums + ((<usize>i) << 3), low, high);
    }
  }
}

/** The same for three. */
export function foldMxintThrice(
  sums: usize,
  place: usize,
  n: i32,
  shiftBase: i32,
  first: f64,
  second: f64,
  third: f64,
): void {
  const magic = f64x2.splat(MAGIC);
  for (let start = 0; start < n; start += 32) {
    const a = f64x2.splat(factorAt(place, start, first, shiftBase));
    const b = f64x2.splat(factorAt(place + PLACE, start, second, shiftBase));
    const c = f64x2.splat(factorAt(place + 2 * PLACE, start, third, shiftBase));
    for (let i = start; i < start + 32; i += 4) {
      const at = place + <usize>i;
      let elements = elementsAt(at);
      let low = f64x2.add(magic, f64x2.mul(f64x2.convert_low_i32x4_s(elements), a));
      let high = f64x2.add(magic, f64x2.mul(f64x2.convert_low_i32x4_s(upper(elements)), a));
      elements = elementsAt(at + PLACE);
      low = f64x2.add(low, f64x2.mul(f64x2.convert_low_i32x4_s(elements), b));
      high = f64x2.add(high, f64x2.mul(f64x2.convert_low_i32x4_s(upper(elements)), b));
      elements = elementsAt(at + 2 * PLACE);
      low = f64x2.add(low, f64x2.mul(f64x2.convert_low_i32x4_s(elements), c));
      high = f64x2.add(high, f64x2.mul(f64x2.convert_low_i32x4_s(upper(elements)), c));
      accumulate(sums + ((<usize>i) << 3), low, high);
    }
  }
}

/** The largest of n exponent bytes in the lower eight bits, and the smallest above them. */
export function exponentRange(source: usize, n: i32): u32 {
  let largest = i8x16.splat(0);
  let smallest = i8x16.splat(-1);
  let i = 0;
  for (; i + 16 <= n; i += 16) {
    const exponents = v128.load(source + <usize>i);
    largest = i8x16.max_u(largest, exponents);
    smallest = i8x16.min_u(smallest, exponents);
  }
  let most: u32 = 0;
  let least: u32 = 255;
  for (; i < n; i++) {
    most = max<u32>(most, load<u8>(source + <usize>i));
    least = min<u32>(least, load<u8>(source + <usize>i));
  }
  // Sixteen lanes, folded onto eight.
  let high = i64x2.extract_lane(i8x16.max_u(largest, i64x2.splat(i64x2.extract_lane(largest, 1))), 0);
  let low = i64x2.extract_lane(i8x16.min_u(smallest, i64x2.splat(i64x2.extract_lane(smallest, 1))), 0);
  for (let lane = 0; lane < 8; lane++) {
    most = max<u32>(most, <u32>(high & 0xff));
    least = min<u32>(least, <u32>(low & 0xff));
    high = high >> 8;
    low = low >> 8;
  }
  return most | (least << 8);
}

/**
 * Makes elements of eight bits of those of four, two a byte, the first in the lower half: each counts 16 times, with its bits in the upper
 * half. Writes whole 32.
 */
export function spreadHalves(place: usize, n: i32): void {
  const mask = i8x16.splat(<i8>0xf0);
  for (let start = 0; start < n; start += 32) {
    const both = v128.load(place + HALVES + ((<usize>start) >> 1));
    const first = i8x16.shl(both, 4);
    const second = v128.and(both, mask);
    const at = place + <usize>start;
    v128.store(at, i8x16.shuffle(first, second, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
    v128.store(at, i8x16.shuffle(first, second, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), 16);
  }
}

/** sums[positions[i]] += weight x round-half-even(source[i] x scale). */
export function foldSparseFloat32(sums: usize, positions: usize, source: usize, n: i32, scale: f64, weight: f64): void {
  for (let i = 0; i < n; i++) {
    const steps = nearest<f64>(<f64>load<f32>(source + ((<usize>i) << 2)) * scale);
    const at = sums + ((<usize>load<u16>(positions + ((<usize>i) << 1))) << 3);
    store<i64>(at, load<i64>(at) + <i64>(steps * weight));
  }
}

/** sums[positions[i]] += (weight x source[i]) << shift, 32 elements to an exponent. */
export function foldSparseMxint8(
  sums: usize,
  positions: usize,
  exponents: usize,
  elements: usize,
  n: i32,
  weight: i32,
  shiftBase: i32,
): void {
  for (let start = 0; start < n; start += 32) {
    const shift = <i64>(<i32>load<u8>(exponents + ((<usize>start) >> 5)) + shiftBase);
    const end = min<i32>(start + 32, n);
    for (let i = start; i < end; i++) {
      const at = sums + ((<usize>load<u16>(positions + ((<usize>i) << 1))) << 3);
      store<i64>(at, load<i64>(at) + ((<i64>load<i8>(elements + <usize>i) * <i64>weight) << shift));
    }
  }
}

/** The same for elements of four bits, the first in the lower half of a byte. */
export function foldSparseMxint4(
  sums: usize,
  positions: usize,
  exponents: usize,
  halves: usize,
  n: i32,
  weight: i32,
  shiftBase: i32,
): void {
  for (let start = 0; start < n; start += 32) {
    const shift = <i64>(<i32>load<u8>(exponents + ((<usize>start) >> 5)) + shiftBase);
    const end = min<i32>(start + 32, n);
    for (let i = start; i < end; i++) {
      const both = <i32>load<u8>(halves + ((<usize>i) >> 1));
      const element = <i64>(<i8>((i & 1) == 0 ? both << 4 : both & 0xf0));
      const at = sums + ((<usize>load<u16>(positions + ((<usize>i) << 1))) << 3);
      store<i64>(at, load<i64>(at) + ((element * <i64>weight) << shift));
    }
  }
}

/** sums[i] += other[i]. */
export function foldSums(sums: usize, other: usize, n: i32): void {
  let i = 0;
  for (; i + 2 <= n; i += 2) {
    const at = sums + ((<usize>i) << 3);
    v128.store(at, i64x2.add(v128.load(at), v128.load(other + ((<usize>i) << 3))));
  }
  if (i < n) {
    const at = sums + ((<usize>i) << 3);
    store<i64>(at, load<i64>(at) + load<i64>(other + ((<usize>i) << 3)));
  }
}

/** 2^52, and 2^84 + 2^63: float64 whose lower 32 mantissa bits are a word of an int64, in the place of that word, the upper one signed. */
const LOW_WORD: i64 = 0x4330000000000000;
const HIGH_WORD: i64 = 0x4530000080000000;
/** 2^84 + 2^63 + 2^52. */
const WORDS: f64 = 19342822341709703277445120.0;

/** means[i] = sums[i] / total x step, each rounded once to float64, divided, multiplied, and rounded to float32; n is even. */
export function means(sums: usize, target: usize, n: i32, total: f64, step: f64): void {
  const totals = f64x2.splat(total);
  const steps = f64x2.splat(step);
  const lowMask = i64x2.splat(0xffffffff);
  const low = i64x2.splat(LOW_WORD);
  const high = i64x2.splat(HIGH_WORD);
  const words = f64x2.splat(WORDS);
  for (let i = 0; i < n; i += 2) {
    const both = v128.load(sums + ((<usize>i) << 3));
    const lower = v128.or(v128.and(both, lowMask), low);
    const higher = v128.xor(i64x2.shr_u(both, 32), high);
    const sum = f64x2.add(f64x2.sub(higher, words), lower);
    const mean = f32x4.demote_f64x2_zero(f64x2.mul(f64x2.div(sum, totals), steps));
    v128.store64_lane(target + ((<usize>i) << 2), mean, 0);
  }
}

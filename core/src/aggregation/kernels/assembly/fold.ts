// AssemblyScript. Adds `weight x value` of one block of an update to int64 accumulators, two or four lanes at a time.

/** 1.5 x 2^52: adding it to an integer-valued float64 leaves the integer, in two's complement, in the low mantissa bits. */
const MAGIC: f64 = 6755399441055744.0;

/** The largest |value| of n float32 bit patterns, as unsigned bits: infinities and NaN come out above every number. */
export function largestMagnitude(source: usize, n: i32): u32 {
  const mask = i32x4.splat(0x7fffffff);
  let largest = i32x4.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    largest = i32x4.max_u(largest, v128.and(v128.load(source + ((<usize>i) << 2)), mask));
  }
  let result = max<u32>(
    max<u32>(i32x4.extract_lane(largest, 0), i32x4.extract_lane(largest, 1)),
    max<u32>(i32x4.extract_lane(largest, 2), i32x4.extract_lane(largest, 3)),
  );
  for (; i < n; i++) result = max<u32>(result, load<u32>(source + ((<usize>i) << 2)) & 0x7fffffff);
  return result;
}

/** sums[i] += weight x round-half-even(source[i] x scale), |each term| <= 2^51. */
export function foldFloat32(sums: usize, source: usize, n: i32, scale: f64, weight: f64): void {
  const scales = f64x2.splat(scale);
  const weights = f64x2.splat(weight);
  const magic = f64x2.splat(MAGIC);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const values = v128.load(source + ((<usize>i) << 2));
    const low = f64x2.nearest(f64x2.mul(f64x2.promote_low_f32x4(values), scales));
    const high = f64x2.nearest(
      f64x2.mul(
        f64x2.promote_low_f32x4(
          i8x16.shuffle(values, values, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15),
        ),
        scales,
      ),
    );
    const at = sums + ((<usize>i) << 3);
    v128.store(at, i64x2.add(v128.load(at), i64x2.sub(f64x2.add(f64x2.mul(low, weights), magic), magic)));
    v128.store(at, i64x2.add(v128.load(at, 16), i64x2.sub(f64x2.add(f64x2.mul(high, weights), magic), magic)), 16);
  }
  for (; i < n; i++) {
    const steps = nearest<f64>(<f64>load<f32>(source + ((<usize>i) << 2)) * scale);
    const at = sums + ((<usize>i) << 3);
    store<i64>(at, load<i64>(at) + <i64>(steps * weight));
  }
}

/** sums[i] += (weight x source[i]) << shift for one block of up to 32 int8 elements. */
function foldElements(sums: usize, source: usize, n: i32, weight: i32, shift: i32): void {
  const weights = i32x4.splat(weight);
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const elements = v128.load8x8_s(source + <usize>i);
    const low = i32x4.extend_low_i16x8_s(elements);
    const high = i32x4.extend_high_i16x8_s(elements);
    const at = sums + ((<usize>i) << 3);
    v128.store(at, i64x2.add(v128.load(at), i64x2.shl(i64x2.extmul_low_i32x4_s(low, weights), shift)));
    v128.store(at, i64x2.add(v128.load(at, 16), i64x2.shl(i64x2.extmul_high_i32x4_s(low, weights), shift)), 16);
    v128.store(at, i64x2.add(v128.load(at, 32), i64x2.shl(i64x2.extmul_low_i32x4_s(high, weights), shift)), 32);
    v128.store(at, i64x2.add(v128.load(at, 48), i64x2.shl(i64x2.extmul_high_i32x4_s(high, weights), shift)), 48);
  }
  for (; i < n; i++) {
    const at = sums + ((<usize>i) << 3);
    store<i64>(at, load<i64>(at) + ((<i64>load<i8>(source + <usize>i) * <i64>weight) << (<i64>shift)));
  }
}

/** Folds whole MXINT8 blocks (the last may be short): one exponent byte each, `shiftBase` turns it into a shift. */
export function foldMxint8(sums: usize, exponents: usize, elements: usize, n: i32, weight: i32, shiftBase: i32): void {
  for (let start = 0; start < n; start += 32) {
    const shift = <i32>load<u8>(exponents + ((<usize>start) >> 5)) + shiftBase;
    foldElements(sums + ((<usize>start) << 3), elements + <usize>start, min<i32>(32, n - start), weight, shift);
  }
}

/**
 * Folds MXINT4 blocks, the last of which may be short: sixteen bytes of two elements each, the first in the lower half. Each element
 * becomes the upper half of a byte at `spread`.
 */
export function foldMxint4(
  sums: usize,
  exponents: usize,
  halves: usize,
  spread: usize,
  n: i32,
  weight: i32,
  shiftBase: i32,
): void {
  const upper = i8x16.splat(<i8>0xf0);
  for (let start = 0; start < n; start += 32) {
    const shift = <i32>load<u8>(exponents + ((<usize>start) >> 5)) + shiftBase;
    const both = v128.load(halves + ((<usize>start) >> 1));
    const first = i8x16.shl(both, 4);
    const second = v128.and(both, upper);
    v128.store(spread, i8x16.shuffle(first, second, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
    v128.store(spread, i8x16.shuffle(first, second, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), 16);
    foldElements(sums + ((<usize>start) << 3), spread, min<i32>(32, n - start), weight, shift);
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
  for (let i = 0; i < n; i++) {
    const at = sums + ((<usize>i) << 3);
    store<i64>(at, load<i64>(at) + load<i64>(other + ((<usize>i) << 3)));
  }
}

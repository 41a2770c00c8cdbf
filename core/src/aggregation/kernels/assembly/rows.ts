// AssemblyScript. Works on a block of several updates at once: rows of `width` values, one row an update.

/** Turns float32 bit patterns into integers of the same order, and back: it is its own inverse. */
function flip(at: usize, n: i32): void {
  const magnitude = i32x4.splat(0x7fffffff);
  for (let i = 0; i < n; i += 4) {
    const bits = v128.load(at + ((<usize>i) << 2));
    v128.store(at + ((<usize>i) << 2), v128.xor(bits, v128.and(i32x4.shr_s(bits, 31), magnitude)));
  }
}

/** Sorts each column ascending by a network of `comparators` pairs of rows; `width` is a multiple of four. */
export function sortColumns(rows: usize, count: i32, width: i32, network: usize, comparators: i32): void {
  flip(rows, count * width);
  const stride = (<usize>width) << 2;
  for (let c = 0; c < comparators; c++) {
    const low = rows + <usize>load<i32>(network + ((<usize>c) << 3)) * stride;
    const high = rows + <usize>load<i32>(network + ((<usize>c) << 3), 4) * stride;
    for (let at: usize = 0; at < stride; at += 16) {
      const a = v128.load(low + at);
      const b = v128.load(high + at);
      v128.store(low + at, i32x4.min_s(a, b));
      v128.store(high + at, i32x4.max_s(a, b));
    }
  }
  flip(rows, count * width);
}

/** The sum of both lanes, the even columns first. */
function total(lanes: v128): f64 {
  return f64x2.extract_lane(lanes, 0) + f64x2.extract_lane(lanes, 1);
}

/** Adds to `sums`, a count x count matrix, the squared distance of each pair of rows (i, j > i); `wide` has room for the rows as float64. */
export function addSquaredDistances(rows: usize, count: i32, width: i32, wide: usize, sums: usize): void {
  for (let i = 0; i < count * width; i += 2) {
    v128.store(wide + ((<usize>i) << 3), f64x2.promote_low_f32x4(v128.load64_zero(rows + ((<usize>i) << 2))));
  }
  const stride = (<usize>width) << 3;
  for (let i = 0; i < count; i++) {
    const row = wide + <usize>i * stride;
    const out = sums + ((<usize>(i * count)) << 3);
    let j = i + 1;
    for (; j + 4 <= count; j += 4) {
      const b0 = wide + <usize>j * stride;
      const b1 = b0 + stride;
      const b2 = b1 + stride;
      const b3 = b2 + stride;
      let s0 = f64x2.splat(0);
      let s1 = f64x2.splat(0);
      let s2 = f64x2.splat(0);
      let s3 = f64x2.splat(0);
      for (let at: usize = 0; at < stride; at += 16) {
        const a = v128.load(row + at);
        const d0 = f64x2.sub(a, v128.load(b0 + at));
        const d1 = f64x2.sub(a, v128.load(b1 + at));
        const d2 = f64x2.sub(a, v128.load(b2 + at));
        const d3 = f64x2.sub(a, v128.load(b3 + at));
        s0 = f64x2.add(s0, f64x2.mul(d0, d0));
        s1 = f64x2.add(s1, f64x2.mul(d1, d1));
        s2 = f64x2.add(s2, f64x2.mul(d2, d2));
        s3 = f64x2.add(s3, f64x2.mul(d3, d3));
      }
      const to = out + ((<usize>j) << 3);
      store<f64>(to, load<f64>(to) + total(s0));
      store<f64>(to, load<f64>(to, 8) + total(s1), 8);
      store<f64>(to, load<f64>(to, 16) + total(s2), 16);
      store<f64>(to, load<f64>(to, 24) + total(s3), 24);
    }
    for (; j < count; j++) {
      const b = wide + <usize>j * stride;
      let s = f64x2.splat(0);
      for (let at: usize = 0; at < stride; at += 16) {
        const d = f64x2.sub(v128.load(row + at), v128.load(b + at));
        s = f64x2.add(s, f64x2.mul(d, d));
      }
      const to = out + ((<usize>j) << 3);
      store<f64>(to, load<f64>(to) + total(s));
    }
  }
}

import { sortingNetwork, type Rows } from './rows.ts';

/** Rows in plain TypeScript. */
export function plainRows(count: number, width: number): Rows {
  const values = new Float32Array(count * width);
  const keys = new Int32Array(values.buffer);
  const squaredDistances = new Float64Array(count * count);
  const network = sortingNetwork(count);
  return {
    count,
    width,
    values,
    squaredDistances,
    sortColumns: () => {
      flip(keys);
      for (let c = 0; c < network.length; c += 2) exchange(keys, width, network[c] ?? 0, network[c + 1] ?? 0);
      flip(keys);
    },
    addSquaredDistances: () => {
      for (let i = 0; i < count; i++) {
        for (let j = i + 1; j < count; j++) {
          const at = i * count + j;
          squaredDistances[at] = (squaredDistances[at] ?? 0) + squaredDistance(values, width, i, j);
        }
      }
    },
  };
}

/** Turns float32 bit patterns into integers of the same order, and back. */
function flip(keys: Int32Array): void {
  for (let i = 0; i < keys.length; i++) {
    const bits = keys[i] ?? 0;
    keys[i] = bits ^ ((bits >> 31) & 0x7fffffff);
  }
}

function exchange(keys: Int32Array, width: number, low: number, high: number): void {
  for (let column = 0; column < width; column++) {
    const a = keys[low * width + column] ?? 0;
    const b = keys[high * width + column] ?? 0;
    keys[low * width + column] = Math.min(a, b);
    keys[high * width + column] = Math.max(a, b);
  }
}

/** Even and odd columns are summed apart, as the kernel's two lanes do. */
function squaredDistance(values: Float32Array, width: number, i: number, j: number): number {
  let even = 0;
  let odd = 0;
  for (let column = 0; column < width; column += 2) {
    const first = (values[i * width + column] ?? 0) - (values[j * width + column] ?? 0);
    const second = (values[i * width + column + 1] ?? 0) - (values[j * width + column + 1] ?? 0);
    even += first * first;
    odd += second * second;
  }
  return even + odd;
}

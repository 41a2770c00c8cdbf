import { ROW_KERNELS_BASE64 } from '../gen/row-kernels.ts';
import { compiledKernels } from '../wasm.ts';
import { sortingNetwork, type Rows } from './rows.ts';

interface Kernels {
  sortColumns(rows: number, count: number, width: number, network: number, comparators: number): void;
  addSquaredDistances(rows: number, count: number, width: number, wide: number, sums: number): void;
}

const compiled = compiledKernels<Kernels>(ROW_KERNELS_BASE64);

/** Rows in WebAssembly memory, or undefined where the platform cannot. */
export function wasmRows(count: number, width: number): Rows | undefined {
  if (compiled === undefined) return undefined;
  const network = sortingNetwork(count);
  const wideAt = 4 * count * width;
  const sumsAt = wideAt + 8 * count * width;
  const networkAt = sumsAt + 8 * count * count;
  const { kernels, buffer } = compiled.instance(networkAt + network.byteLength);
  new Int32Array(buffer, networkAt, network.length).set(network);
  return {
    count,
    width,
    values: new Float32Array(buffer, 0, count * width),
    squaredDistances: new Float64Array(buffer, sumsAt, count * count),
    sortColumns: () => kernels.sortColumns(0, count, width, networkAt, network.length / 2),
    addSquaredDistances: () => kernels.addSquaredDistances(0, count, width, wideAt, sumsAt),
  };
}

import { FOLD_VALUES, type Accumulator } from './accumulator.ts';
import { KERNELS_BASE64 } from './gen/kernels.ts';

/** The part of WebAssembly that is used here; core needs neither Node's types nor a browser's. */
interface WebAssemblyLike {
  Module: new (bytes: Uint8Array) => object;
  Memory: new (descriptor: { initial: number }) => { buffer: ArrayBuffer };
  Instance: new (module: object, imports: object) => { exports: unknown };
}

interface Kernels {
  largestMagnitude(source: number, n: number): number;
  foldFloat32(sums: number, source: number, n: number, scale: number, weight: number): void;
  foldMxint8(sums: number, exponents: number, elements: number, n: number, weight: number, shiftBase: number): void;
  foldSums(sums: number, other: number, n: number): void;
}

const PAGE_BYTES = 65536;
/** A block of an update is copied here before it is folded: at most FOLD_VALUES values of 8 bytes. */
const SCRATCH_BYTES = 8 * FOLD_VALUES;
/** Within the scratch, MXINT8 elements stand behind their exponents. */
const ELEMENTS_OFFSET = FOLD_VALUES / 32;

const { WebAssembly, atob } = globalThis as unknown as {
  WebAssembly?: WebAssemblyLike;
  atob(base64: string): string;
};
const module = compiled();

/** Undefined where the platform has no WebAssembly SIMD. */
function compiled(): object | undefined {
  if (WebAssembly === undefined) return undefined;
  try {
    return new WebAssembly.Module(Uint8Array.from(atob(KERNELS_BASE64), (character) => character.charCodeAt(0)));
  } catch {
    // The only cause is a platform without SIMD: the bytes are our own. The plain twin takes over.
    return undefined;
  }
}

/** The accumulators in WebAssembly memory, or undefined where the platform cannot. */
export function wasmAccumulator(length: number): Accumulator | undefined {
  if (WebAssembly === undefined || module === undefined) return undefined;
  const pages = Math.ceil((SCRATCH_BYTES + 8 * length) / PAGE_BYTES);
  const memory = new WebAssembly.Memory({ initial: pages });
  const kernels = new WebAssembly.Instance(module, { env: { memory } }).exports as Kernels;
  const bytes = new Uint8Array(memory.buffer);
  const sumsAt = (index: number): number => SCRATCH_BYTES + 8 * index;
  return {
    length,
    words: new Int32Array(memory.buffer, SCRATCH_BYTES, 2 * length),
    largestMagnitude: (values) => {
      bytes.set(values);
      return kernels.largestMagnitude(0, values.length / 4) >>> 0;
    },
    foldFloat32: (start, values, scale, weight) => {
      bytes.set(values);
      kernels.foldFloat32(sumsAt(start), 0, values.length / 4, scale, weight);
    },
    foldMxint8: (start, exponents, elements, weight, shiftBase) => {
      bytes.set(exponents);
      bytes.set(elements, ELEMENTS_OFFSET);
      kernels.foldMxint8(sumsAt(start), 0, ELEMENTS_OFFSET, elements.length, weight, shiftBase);
    },
    foldSums: (start, sums) => {
      bytes.set(sums);
      kernels.foldSums(sumsAt(start), 0, sums.length / 8);
    },
  };
}

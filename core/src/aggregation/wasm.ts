/** The part of WebAssembly that is used here; core needs neither Node's types nor a browser's. */
interface WebAssemblyLike {
  Module: new (bytes: Uint8Array) => object;
  Memory: new (descriptor: { initial: number }) => { buffer: ArrayBuffer };
  Instance: new (module: object, imports: object) => { exports: unknown };
}

/** Kernels that are compiled; each instance has memory of its own. */
export interface CompiledKernels<K> {
  instance(bytes: number): { kernels: K; buffer: ArrayBuffer };
}

const PAGE_BYTES = 65536;

const { WebAssembly, atob } = globalThis as unknown as {
  WebAssembly?: WebAssemblyLike;
  atob(base64: string): string;
};

/** Undefined where the platform has no WebAssembly SIMD. */
export function compiledKernels<K>(base64: string): CompiledKernels<K> | undefined {
  if (WebAssembly === undefined) return undefined;
  const { Module, Memory, Instance } = WebAssembly;
  let module: object;
  try {
    module = new Module(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
  } catch {
    // The only cause is a platform without SIMD: the bytes are our own. The plain twin takes over.
    return undefined;
  }
  return {
    instance: (bytes) => {
      const memory = new Memory({ initial: Math.ceil(bytes / PAGE_BYTES) });
      return { kernels: new Instance(module, { env: { memory } }).exports as K, buffer: memory.buffer };
    },
  };
}

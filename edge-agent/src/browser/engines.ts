import type { EngineName } from '../training/engine.ts';

/** What of a browser says what it can compute with. */
interface Navigator {
  hardwareConcurrency: number;
  gpu?: { requestAdapter(): Promise<{ info?: { isFallbackAdapter?: boolean } } | null> };
}

const { navigator } = globalThis as unknown as { navigator: Navigator };

/** The engines of a page, best first: WebAssembly runs everywhere, and comes first where the GPU is played by the CPU. */
export async function browserEngines(asked: 'auto' | 'ort-web' | 'ort-webgpu'): Promise<[EngineName, ...EngineName[]]> {
  if (asked === 'ort-web') return ['ort-web'];
  if (asked === 'ort-webgpu') return ['ort-webgpu', 'ort-web'];
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const isReal = adapter !== null && adapter !== undefined && adapter.info?.isFallbackAdapter !== true;
  return isReal ? ['ort-webgpu', 'ort-web'] : ['ort-web'];
}

/** All threads but the one that draws the page. */
export const browserThreads = (): number => Math.max(1, navigator.hardwareConcurrency - 1);

import type { EngineName } from '../engine.ts';

/** All engines; one that is not tried out is taken in this order. */
export const engineNames: readonly EngineName[] = [
  'ort-cpu',
  'ort-cuda',
  'ort-webgpu',
  'ort-dml',
  'ort-coreml',
  'ort-web',
  'tfjs',
];

// The door to WebGPU, for pages that want it: ONNX Runtime's build for it is another 27 MB beside a page, which loads them when it is used.
import { pageDevice } from './runtime/web-engines.ts';
import { startPageWorker, type WebWorker } from './runtime/web-engine.ts';
import { WorkerEngine } from './runtime/worker-engine.ts';
import { onnxRuntimeLacks, UNKNOWN_GPU, type EngineSource } from './runtime/engines.ts';

interface Adapter {
  info: { vendor: string; architecture: string; device: string; description: string };
}

declare const navigator: { gpu?: { requestAdapter(): Promise<Adapter | null> } };
declare const Worker: new (url: URL, options: { type: 'module' }) => WebWorker;

const start = startPageWorker(
  () => new Worker(new URL('./runtime/ort-webgpu-worker.js', import.meta.url), { type: 'module' }),
);

/** ONNX Runtime Web on the GPU: `connect(url, { engines: [webGpu], engine: 'auto' })`. */
export const webGpu: EngineSource = {
  name: 'ort-webgpu',
  open: (options) => new WorkerEngine('ort-webgpu', start, options),
  whyNot: async () => {
    if (navigator.gpu === undefined)
      return 'this browser has no WebGPU, or the page is not served over https or from localhost';
    return (await navigator.gpu.requestAdapter()) === null
      ? 'the browser has no GPU that it gives to pages'
      : undefined;
  },
  // Of the driver a page hears nothing; a browser that is newer says so.
  device: async (threads) => {
    const info = (await navigator.gpu?.requestAdapter())?.info;
    const names = [info?.vendor, info?.architecture, info?.device, info?.description].filter(Boolean);
    return `${names.length === 0 ? UNKNOWN_GPU : names.join(' ')}, ${pageDevice(threads)}`;
  },
  lacks: onnxRuntimeLacks,
  computesInHalf: true,
};

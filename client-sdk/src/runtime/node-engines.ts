/** The engines that Node may have. */
import { cpus } from 'node:os';
import { whyNot, type NativeEngine } from './engine-probe.ts';
import { onnxRuntimeLacks, type EngineSource, type EngineSources } from './engines.ts';
import { ownGpuNames } from './gpu-names.ts';
import { NodeWebEngine, OrtEngine } from './ort-engine.ts';

/** The processor, and how many of its threads one prediction gets. */
export const deviceName = (threads: number): string =>
  `${process.arch} ${cpus()[0]?.model.trim() ?? 'unknown'}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;

/** The GPUs with their drivers, and the processor that feeds them. */
export const gpuDeviceName = async (threads: number): Promise<string> =>
  `${await ownGpuNames()}, ${deviceName(threads)}`;

const native = (engine: NativeEngine, of: Pick<EngineSource, 'computesInHalf'> = {}): EngineSource => ({
  ...of,
  name: engine,
  open: (options) => new OrtEngine({ ...options, engine }),
  whyNot: () => whyNot(engine),
  device: engine === 'ort-cpu' ? deviceName : gpuDeviceName,
  lacks: onnxRuntimeLacks,
});

const web: EngineSource = {
  name: 'ort-web',
  open: (options) => new NodeWebEngine(options),
  whyNot: async () => {
    const engine = new NodeWebEngine();
    try {
      await engine.runtime();
      return undefined;
    } catch (error) {
      return (error as Error).message;
    } finally {
      await engine.close();
    }
  },
  device: deviceName,
  lacks: onnxRuntimeLacks,
  isFallback: true,
};

const ofGpu = { computesInHalf: true } as const;

export const nodeEngines: EngineSources = [
  native('ort-cpu'),
  native('ort-cuda', ofGpu),
  native('ort-webgpu', ofGpu),
  native('ort-dml', ofGpu),
  native('ort-coreml', ofGpu),
  web,
];

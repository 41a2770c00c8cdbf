// The door to predictions by TensorFlow.js, for apps in Node that have it installed.
import {
  deviceName,
  gpuDeviceName,
  probeIn,
  startThread,
  WorkerEngine,
  type EngineSource,
} from '@commonweight/client-sdk';
import { createRequire } from 'node:module';
import { tfjsLacks } from './training/engines/tfjs/quantized.ts';

const start = startThread('training/engines/tfjs/prediction-worker', import.meta.url);
let found: Promise<string | undefined> | undefined;

/**
 * TensorFlow.js, by whichever of its packages is installed, in a worker thread: `connect(url, { engines: [tfjs], engine: 'auto' })`. It computes
 * float32 models by the operators that it trains with, and refuses others.
 */
export const tfjs: EngineSource = {
  name: 'tfjs',
  open: (options) => new WorkerEngine('tfjs', start, options),
  whyNot: () => (found ??= probeIn(import.meta.url, 'training/engines/tfjs/prediction-probe-process')),
  device: (threads) => (runsOnGpu() ? gpuDeviceName(threads) : deviceName(threads)),
  lacks: tfjsLacks,
};

/** Its package for GPUs is taken first, where it is installed. */
function runsOnGpu(): boolean {
  try {
    createRequire(import.meta.url).resolve('@tensorflow/tfjs-node-gpu');
    return true;
  } catch {
    return false;
  }
}

import { createRequire, registerHooks } from 'node:module';
import { EngineError } from '../../engine.ts';
import type { TfLibrary } from './operator.ts';
import { addWasmKernels } from './wasm-kernels.ts';

/** TensorFlow.js as it was found, and what it computes with. */
export interface LoadedTfjs {
  tf: TfLibrary;
  runsOn: string;
}

const NATIVE = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'] as const;
const MEND = 'npm install @tensorflow/tfjs-node, or @tensorflow/tfjs-core with @tensorflow/tfjs-backend-wasm';

/** The fastest TensorFlow.js that is installed: on a GPU, on the CPU, in WebAssembly, in plain JavaScript. Throws EngineError where there is none. */
export async function loadTfjs(): Promise<LoadedTfjs> {
  const require = createRequire(import.meta.url);
  for (const name of NATIVE) {
    const tf = ifInstalled<TfLibrary>(require, name);
    if (tf === undefined) continue;
    await tf.ready();
    return { tf, runsOn: `${name} ${tf.version_core}` };
  }
  const tf = ifInstalled<TfLibrary>(require, '@tensorflow/tfjs-core');
  if (tf === undefined) throw new EngineError(`no TensorFlow.js is installed: ${MEND}`);
  registerGradients(require);
  for (const backend of ['wasm', 'cpu'] as const) {
    const name = `@tensorflow/tfjs-backend-${backend}`;
    if (ifInstalled(require, name) === undefined) continue;
    if (backend === 'wasm') addWasmKernels(tf);
    if (await tf.setBackend(backend)) return { tf, runsOn: `${name} ${tf.version_core}` };
  }
  throw new EngineError(`no backend of TensorFlow.js is installed beside @tensorflow/tfjs-core: ${MEND}`);
}

/** What is broken is told; what is not there is not. */
function ifInstalled<T>(require: NodeJS.Require, name: string): T | undefined {
  try {
    require.resolve(name);
  } catch {
    return undefined;
  }
  return require(name) as T;
}

/** The gradients are not in the bundle that Node loads, and their modules import each other without extensions. */
function registerGradients(require: NodeJS.Require): void {
  const hooks = registerHooks({
    resolve: (specifier, context, next) => {
      const isTheirs = context.parentURL?.includes('/@tensorflow/tfjs-core/dist/') === true;
      const isBare = isTheirs && /^\.\.?\//.test(specifier) && !specifier.endsWith('.js');
      return next(isBare ? `${specifier}.js` : specifier, context);
    },
  });
  require('@tensorflow/tfjs-core/dist/register_all_gradients.js');
  hooks.deregister();
}

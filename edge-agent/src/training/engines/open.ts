import { plainReason, EngineError, type Engine, type EngineName } from '../engine.ts';
import { openOrtNode } from './ort-node.ts';
import { ortWeb, type OrtWeb } from './ort-web.ts';
import { openTfjs } from './tfjs/tfjs-engine.ts';

/** Opens an engine in this process. Its library is loaded only now. Throws EngineError where it is not there. */
export async function openEngine(name: EngineName, { threads }: { threads: number }): Promise<Engine> {
  switch (name) {
    case 'ort-web':
      return ortWeb(await loaded<OrtWeb>('onnxruntime-web'), { provider: 'wasm', threads });
    case 'tfjs':
      return openTfjs();
    default:
      return openOrtNode(name, { threads });
  }
}

/** A package that may be missing. */
async function loaded<T>(name: string): Promise<T> {
  try {
    return (await import(name)) as T;
  } catch (cause) {
    throw new EngineError(`${name} is not installed: ${plainReason(cause)}`, { cause });
  }
}

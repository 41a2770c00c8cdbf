import type { StepForms, StepGraph } from '@commonweight/core';
import type { Engine, Program, Runnable } from '../../engine.ts';
import { openOrtNode } from '../ort-node.ts';
import { loadTfjs, type LoadedTfjs } from './load-tfjs.ts';
import { TfjsProgram } from './tfjs-program.ts';

/** TensorFlow.js: computes the forward graph by its own operators and takes gradients by its own differentiation. */
class TfjsEngine implements Engine {
  readonly name = 'tfjs';
  readonly forms: StepForms = { gradients: 'given' };
  readonly runsOn: string;
  readonly #tf: LoadedTfjs['tf'];

  constructor({ tf, runsOn }: LoadedTfjs) {
    this.#tf = tf;
    this.runsOn = runsOn;
  }

  compile(graph: StepGraph): Promise<Program> {
    return Promise.resolve().then(() => new TfjsProgram(this.#tf, graph));
  }

  async load(model: Uint8Array): Promise<Runnable> {
    // It has no texts, and ONNX Runtime is always there.
    return (await openOrtNode('ort-cpu', { threads: 1 })).load(model);
  }

  release(): Promise<void> {
    return Promise.resolve();
  }
}

export async function openTfjs(): Promise<Engine> {
  return new TfjsEngine(await loadTfjs());
}
